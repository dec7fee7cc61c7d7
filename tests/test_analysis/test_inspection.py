import io
import re

import pytest
import torch
from rich.console import Console

from mmtern import ternary_layers
from mmtern.analysis.expected_sizes import expected_sizes
from mmtern.analysis.inspection import inspect_config
from mmtern.analysis.measure import measure_model, summarize
from mmtern.analysis.plan import plan_config
from mmtern.files.contents import collect
from mmtern.files.sizes import Sizes
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


def test_the_tables_name_every_decision_and_format():
    text = shown(small_config(TERNARY))
    for word in ('ternary', 'left: stem', 'left: prediction', 'float32',
                 'float16', '2 bits', 'entropy bound'):
        assert word in text
    every = shown(small_config(TERNARY), every_layer=True)
    assert 'backbone.layer4.1.conv2' in every


def test_a_checkpoint_adds_what_it_measures(plan, tmp_path):
    path = str(tmp_path / 'float.pth')
    torch.save(dict(state_dict=plan.model.state_dict()), path)
    text = shown(small_config(FLOAT), path)
    assert 'Checkpoint:' in text and 'zstd' in text


def test_a_foreign_checkpoint_is_refused(tmp_path):
    path = str(tmp_path / 'foreign.pth')
    torch.save(dict(state_dict=dict(x=torch.zeros(1))), path)
    with pytest.raises(ValueError, match='none of the ternary layers'):
        shown(small_config(FLOAT), path)


def test_sizes_are_those_of_the_packed_file(plan):
    sizes = {s.format: s.size for s in expected_sizes(plan.model)}
    for dtype in ('float32', 'float16'):
        stored = Sizes(collect(plan.model, '2bit', dtype, 'float').sizes)
        assert sizes[f'2 bits, rest {dtype}'] == stored.total('after')
    assert sizes['float32'] == stored.total('before')


def test_demanded_zeros_lower_the_bound(plan):
    cfg = small_config(TERNARY)
    cfg.model.ternary = dict(model_sparsity=0.8)
    sparse = plan_config(cfg)
    natural, fewer = (expected_sizes(x.model)[-1] for x in (plan, sparse))
    assert 'at most 1.58 bits' in natural.remark
    bits = float(re.search('at most (.*) bits', fewer.remark)[1])
    # 0.92 bits if each layer had 80 % zeros, and less where they differ.
    assert 0.8 < bits < 0.92 and fewer.size < 0.8 * natural.size
    text = shown(cfg, every_layer=True)
    assert '80.0% of those become zeros' in text
    assert re.search('layer4.*ternary, 8[1-9]% zeros or more', text)


def test_sizes_obey_their_bounds(plan):
    sizes = {
        s.format: s.size
        for s in expected_sizes(plan.model, measure_model(plan.model))
    }
    bound = sizes['entropy bound, rest float16']
    assert bound < sizes['zstd, rest float16'] < 1.02 * bound
    assert bound < sizes['2 bits, rest float16'] < sizes['float16'] / 3


@pytest.mark.parametrize('model, sentence', [
    (dict(ternary=dict(treshold='mean')), "did you mean 'threshold'"),
    (dict(wrapped='RetinaNett'), 'RetinaNett'),
    (dict(ternary=dict(exclude=['nothing_here'])), 'matches no layer'),
])
def test_mistakes_are_one_sentence(model, sentence, monkeypatch, tmp_path):
    from mmtern.__main__ import main
    path = tmp_path / 'config.py'
    cfg = small_config(TERNARY)
    cfg.merge_from_dict(dict(model=model))
    cfg.dump(str(path))
    monkeypatch.setattr('sys.argv', ['mmtern', 'inspect', str(path)])
    with pytest.raises(SystemExit, match=sentence) as error:
        main()
    assert '\n' not in str(error.value)


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
