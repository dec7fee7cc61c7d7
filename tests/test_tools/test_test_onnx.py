"""tools/test_onnx.py finds in a file what its checkpoint finds."""
import pytest
import torch
from mmengine.config import Config

from ..tool_runs import make_place, run_tool

pytest.importorskip('onnx', '1.20')
pytest.importorskip('onnxruntime', '1.24')

# A score that untrained detectors reach.
LOW = '--cfg-options model.test_cfg.score_thr=0.005'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp('place'))


def test_boxes_against_a_checkpoint(place, monkeypatch, capsys):

    def said(line):
        status, last = run_tool(place, monkeypatch, capsys, line)
        assert status == 0, last
        return last

    state = torch.load(place / 'tern.pth', weights_only=True)
    weight = state['state_dict']['bbox_head.retina_cls.weight']
    weight.normal_(generator=torch.Generator().manual_seed(0))
    torch.save(state, place / 'seen.pth')
    said(f'export tern.py seen.pth seen.onnx --activations float {LOW}')
    same = said(f'test_onnx tern.py seen.onnx --against seen.pth {LOW}')
    assert same.startswith('2 of 2 images have the same boxes, of ')
    assert ' boxes 0 are not found and 0 are more; ' in same
    assert 'of 0 boxes' not in same
    weight.neg_()
    torch.save(state, place / 'other.pth')
    other = said(f'test_onnx tern.py seen.onnx --against other.pth {LOW}')
    assert other.startswith('0 of 2 images have the same boxes, of ')
    # Without it, the metric.
    assert said(f'test_onnx tern.py seen.onnx {LOW}').startswith('test AP ')


def test_a_preprocessor_beside_the_model(place, monkeypatch, capsys):
    """Where mmengine hands it to the model when the runner builds one."""
    cfg = Config.fromfile(str(place / 'tern.py'))
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.dump(place / 'beside.py')
    for line, told in (
        ('export beside.py tern.pth beside.onnx --activations float',
         ''), (f'test_onnx beside.py beside.onnx --against tern.pth {LOW}',
               '2 of 2 images'), (f'test_onnx beside.py beside.onnx {LOW}',
                                  'test AP ')):
        status, last = run_tool(place, monkeypatch, capsys, line)
        assert status == 0 and last.startswith(told), last


def test_a_missing_checkpoint_is_said(place, monkeypatch, capsys):
    (place / 'a.onnx').write_text('no graph')
    assert run_tool(place, monkeypatch, capsys,
                    'test_onnx tern.py a.onnx --against none.pth') == (
                        1, "error: checkpoint 'none.pth' does not exist")


@pytest.mark.parametrize('classes,words', [
    ('[square,circle,triangle]', "number 0 is 'circle', not 'square'"),
    ('[circle,square]', '3, not 2'),
])
def test_other_classes_are_refused(place, monkeypatch, capsys, classes, words):

    def said(line):
        return run_tool(place, monkeypatch, capsys, line)

    status, last = said('export tern.py tern.pth classes.onnx --force '
                        '--activations float')
    assert status == 0, last
    options = ('--cfg-options test_dataloader.dataset.metainfo.classes='
               f'{classes}')
    assert said(f'test_onnx tern.py classes.onnx {options}') == (
        1, 'error: classes.onnx was made for other classes than the test data '
        f'set has: {words}')
