"""The tools notice that a checkpoint was trained with other ternary settings
than the config has."""
import pytest

from ..tool_runs import make_place, run_tool

OTHER = '--cfg-options model.ternary.threshold=max'
SAID = ("this checkpoint was trained with other ternary settings (tern.pth): "
        "model.ternary.threshold='mean', and here it is 'max'; write "
        '--cfg-options model.ternary.threshold=mean to use tern.py with it')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp('place'))


def test_a_test_warns_of_other_settings(place, monkeypatch, capsys):
    line = f'test tern.py tern.pth --work-dir work {OTHER}'
    assert run_tool(place, monkeypatch, capsys,
                    line) == (0, f'warning: {SAID}')


def test_an_export_refuses_them(place, monkeypatch, capsys):
    line = f'export tern.py tern.pth x.safetensors {OTHER}'
    assert run_tool(place, monkeypatch, capsys, line) == (1, f'error: {SAID}')
    assert not (place / 'x.safetensors').exists()


def test_the_command_to_test_a_file_has_the_options_of_its_export(
        place, monkeypatch, capsys):
    line = ('export tern.py tern.pth y.safetensors --cfg-options '
            'model.test_cfg.score_thr=0.5 model.ternary.exclude=[]')
    status, said = run_tool(place, monkeypatch, capsys, line)
    assert status == 0
    assert said.endswith(
        'tools/test.py tern.py y.safetensors --cfg-options '
        "model.test_cfg.score_thr=0.5 'model.ternary.exclude=[]'")


def test_a_picture_warns_of_other_settings(place, monkeypatch, capsys):
    pytest.importorskip('matplotlib')
    (place / 'max.py').write_text(
        "_base_ = './tern.py'\nmodel = dict(ternary=dict(threshold='max'))\n")
    line = 'draw_detections {} --model t max.py tern.pth --images 1'
    status, said, shown = run_tool(place, monkeypatch, capsys,
                                   line.format('x.png'), True)
    assert status == 0 and 'wrote x.png' in shown
    assert said == f'warning: {SAID.replace("use tern.py", "use max.py")}'
    status, said = run_tool(place, monkeypatch, capsys,
                            line.format('no/x.png'))
    assert status == 1 and said.startswith('error: folder ')
