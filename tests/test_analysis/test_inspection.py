import io
import re

import pytest
import torch
from mmdet.models import FPN
from mmdet.registry import MODELS
from mmengine.config import Config
from rich.console import Console
from torch import nn

from mmtern import ternary_layers
from mmtern.analysis.expected_sizes import EXPORT, expected_sizes
from mmtern.analysis.inspection import inspect_config
from mmtern.analysis.measure import measure_model, summarize
from mmtern.analysis.plan import plan_config
from mmtern.files import save_packed
from ..small_detectors import soft_teacher
from ..test_report.work_dirs import small_config

TERNARY = 'configs/tern_retinanet_r18-lite_shapes.py'
FLOAT = 'configs/retinanet_r18-lite_shapes.py'


def shown(cfg, checkpoint=None, every_layer=False):
    console = Console(file=io.StringIO(), width=160)
    inspect_config(cfg, checkpoint, console, every_layer)
    return console.file.getvalue()


@pytest.fixture(scope='module')
def plan():
    torch.manual_seed(0)
    return plan_config(small_config(TERNARY))


def test_a_float_config_is_surveyed_as_the_detector_wrapper_would(plan):
    float_plan = plan_config(small_config(FLOAT))
    assert plan.wrapped and not float_plan.wrapped
    assert float_plan.report == plan.report
    assert {r.reason for r in plan.report.left} == {'stem', 'prediction'}


def test_a_wrapped_backbone_leaves_the_rest():
    cfg = small_config(FLOAT)
    cfg.model.backbone.update(
        type='TernBackbone', wrapped='ResNet', ternary=dict(stem=True))
    report = plan_config(cfg).report
    assert all(r.name.startswith('backbone.') for r in report.ternary)
    assert {r.reason for r in report.left} == {'outside the wrapper'}


def test_a_wrapper_inside_another_detector():
    plan = plan_config(Config(dict(model=soft_teacher())))
    assert plan.wrapped
    names = [record.name for record in plan.report.ternary]
    assert names == list(ternary_layers(plan.model))
    assert {name.split('.')[0] for name in names} == {'student', 'teacher'}
    assert {r.reason for r in plan.report.left} == {'stem', 'prediction'}
    text = shown(Config(dict(model=soft_teacher())))
    assert 'teacher.backbone.conv1' in text


def test_the_tables_name_every_decision_and_format():
    text = shown(small_config(TERNARY))
    for word in ('ternary', 'left: stem', 'left: prediction', 'float32',
                 'float16', '2 bits', 'tools/export.py',
                 'ternary layers: backbone 19, neck 8, bbox_head 4'):
        assert word in text
    every = shown(small_config(TERNARY), every_layer=True)
    assert 'backbone.layer4.1.conv2' in every


def test_a_checkpoint_adds_what_it_measures(plan, tmp_path):
    path = str(tmp_path / 'float.pth')
    torch.save(dict(state_dict=plan.model.state_dict()), path)
    text = shown(small_config(FLOAT), path)
    assert 'Checkpoint:' in text and 'entropy, if independent' in text


def test_a_foreign_checkpoint_is_refused(tmp_path):
    path = str(tmp_path / 'foreign.pth')
    torch.save(dict(state_dict=dict(x=torch.zeros(1))), path)
    with pytest.raises(ValueError, match='none of the ternary layers'):
        shown(small_config(FLOAT), path)


def test_sizes_are_those_of_the_packed_file(plan, tmp_path):
    sizes = {s.format: s.size for s in expected_sizes(plan.model)}
    for dtype in ('float32', 'float16'):
        stored = save_packed(
            plan.model,
            small_config(TERNARY),
            str(tmp_path / f'{dtype}.safetensors'), {},
            encoding='2bit',
            dtype=dtype).sizes
        assert sizes[f'2 bits, rest {dtype}'] == stored.total('after')
    assert sizes['float32'] == stored.total('before')


def test_demanded_zeros_lower_the_bound(plan):
    cfg = small_config(TERNARY)
    cfg.model.ternary = dict(model_sparsity=0.8)
    sparse = plan_config(cfg)
    natural, fewer = (
        next(s for s in expected_sizes(x.model) if s.format == EXPORT)
        for x in (plan, sparse))
    assert 'at most 1.58 bits' in natural.remark
    bits = float(re.search('at most (.*) bits', fewer.remark)[1])
    # 0.92 bits if each layer had 80 % zeros, and less where they differ.
    assert 0.8 < bits < 0.92 and fewer.size < 0.9 * natural.size
    text = shown(cfg, every_layer=True)
    assert '80.0% of those become zeros' in text
    assert re.search('layer4.*ternary, 8[1-9]% zeros or more', text)


def test_a_trained_model_is_listed_as_it_is_exported(plan, tmp_path):
    measured = expected_sizes(plan.model, measure_model(plan.model))
    sizes = {s.format: s.size for s in measured}
    path = str(tmp_path / 'model.safetensors')
    stored = save_packed(plan.model, small_config(TERNARY), path, {}).sizes
    # zstd shortens the rest, too: the norms of an untrained model, mostly.
    assert 0.85 < stored.total('after') / sizes[EXPORT] < 1
    assert sizes[EXPORT] < sizes['2 bits, rest float32']


@pytest.mark.parametrize('config, checkpoint, command', [
    (FLOAT, False, "wrapped='RetinaNet'"),
    (FLOAT, True, 'tools/sensitivity.py'),
    (TERNARY, False, 'tools/train.py'),
    (TERNARY, True, 'tools/export.py'),
])
def test_what_comes_next(config, checkpoint, command, plan, tmp_path):
    path = None
    if checkpoint:
        path = str(tmp_path / 'model.pth')
        torch.save(dict(state_dict=plan.model.state_dict()), path)
    last = shown(small_config(config), path).splitlines()[-1]
    assert last.startswith('next: ') and command in last


def inspect_file(path, monkeypatch, *arguments):
    from mmtern.__main__ import main
    monkeypatch.setattr('sys.argv',
                        ['mmtern', 'inspect', str(path)] + list(arguments))
    main()


@pytest.mark.parametrize('model, sentence', [
    (dict(ternary=dict(treshold='mean')), "did you mean 'threshold'"),
    (dict(wrapped='RetinaNett'), 'RetinaNett'),
    (dict(ternary=dict(exclude=['nothing_here'])), 'matches no layer'),
    (dict(nek=None), "unexpected keyword argument 'nek'"),
    (dict(backbone=dict(depth=19)), 'invalid depth 19 for resnet'),
    (dict(backbone=dict(base_channels=-8)), 'negative'),
    (dict(neck=dict(out_channels=None)), 'NoneType'),
])
def test_mistakes_are_one_sentence(model, sentence, monkeypatch, tmp_path):
    path = tmp_path / 'config.py'
    cfg = small_config(TERNARY)
    cfg.merge_from_dict(dict(model=model))
    cfg.dump(str(path))
    with pytest.raises(SystemExit, match=sentence) as error:
        inspect_file(path, monkeypatch)
    assert str(error.value).startswith('error: ')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('text, sentence', [
    ('a = 1 / 0', 'ZeroDivisionError: division by zero'),
    ('a = (', 'cannot be read: SyntaxError'),
    ('a = 1', 'no model'),
    ("_base_ = './gone.py'", 'gone.py'),
    ("custom_imports = dict(imports=['gone'])\nmodel = dict(type='RetinaNet')",
     'gone'),
])
def test_texts_that_are_no_config(text, sentence, monkeypatch, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(SystemExit, match=sentence) as error:
        inspect_file(path, monkeypatch)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('options, sentence', [
    (['model.backbone.depth.x=1'], 'depth'),
    (['model.bbox_head.anchor_generator.ratios.9=1'], '9'),
])
def test_options_that_do_not_fit(options, sentence, monkeypatch):
    with pytest.raises(SystemExit, match=sentence) as error:
        inspect_file(FLOAT, monkeypatch, '--cfg-options', *options)
    assert '\n' not in str(error.value)


def test_a_file_that_is_no_checkpoint(monkeypatch, tmp_path):
    path = tmp_path / 'text.pth'
    path.write_text('no checkpoint')
    with pytest.raises(SystemExit, match='text.pth.*cannot be') as error:
        inspect_file(TERNARY, monkeypatch, str(path))
    assert '\n' not in str(error.value)


def FaultyNeck(where: str, **kwargs) -> nn.Module:
    """Fails while it is built, or when our conversion looks at it."""

    class Faulty(FPN):

        def named_modules(self, *args, **kwargs):
            raise KeyError('a fault in what comes after')

    if where == 'build':
        raise KeyError('a fault of the detector')
    return Faulty(**kwargs)


def test_our_own_faults_keep_their_traceback(monkeypatch, tmp_path):
    MODELS.register_module(module=FaultyNeck)
    cfg = small_config(FLOAT)
    cfg.model.neck.update(type='TernNeck', wrapped='FaultyNeck')
    path = tmp_path / 'config.py'
    cfg.model.neck.where = 'build'
    cfg.dump(str(path))
    with pytest.raises(SystemExit, match='a fault of the detector'):
        inspect_file(path, monkeypatch)
    cfg.model.neck.where = 'after'
    cfg.dump(str(path))
    with pytest.raises(KeyError, match='a fault in what comes after'):
        inspect_file(path, monkeypatch)


def test_the_average_weighs_layers_by_their_size(plan):
    codes = torch.cat([
        layer.quantizer.codes(layer.weight).flatten()
        for layer in ternary_layers(plan.model).values()
    ])
    summary = summarize(plan.model)
    assert summary['zeros'] == pytest.approx(
        float((codes == 0).double().mean()))
    parameters = sum(p.numel() for p in plan.model.parameters())
    assert summary['ternary'] == pytest.approx(len(codes) / parameters)
    assert 0.8 < summary['cosine'] < 1 < summary['bits_per_weight'] < 1.585
