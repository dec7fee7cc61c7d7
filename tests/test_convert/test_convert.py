import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmcv.ops import ModulatedDeformConv2dPack
from torch import nn

from mmtern import Scope, TernConv2d, TernLinear, convert, ternary_layers
from mmtern.convert import convert_from_config, survey


def net(**layers) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


def plain() -> nn.Sequential:
    return net(first=nn.Conv2d(8, 6, 3, bias=False), second=nn.Conv2d(6, 4, 1))


def test_only_the_class_changes():
    model = plain().double()
    model.first.custom = 'kept'
    seen = []
    model.first.register_forward_hook(lambda *args: seen.append(1))
    layers, parameters = list(model), list(model.parameters())
    values = copy.deepcopy(model.state_dict())
    convert(model)
    assert list(model) == layers
    assert [type(layer) for layer in model] == [TernConv2d] * 2
    assert all(a is b for a, b in zip(model.parameters(), parameters))
    assert list(model.state_dict()) == list(values)
    for key, value in model.state_dict().items():
        assert torch.equal(value, values[key]), key
    assert model.first.custom == 'kept'
    assert model(torch.randn(1, 8, 5, 5).double()).dtype == torch.float64
    assert seen == [1]


def test_include_and_exclude():
    model = net(
        one=nn.Conv2d(8, 8, 1), two=nn.Conv2d(8, 8, 1), fc=nn.Linear(8, 8))
    convert(model, Scope(include=['o', 'fc'], exclude=['one']))
    assert list(ternary_layers(model)) == ['two', 'fc']
    assert isinstance(model.fc, TernLinear)


def test_a_module_itself():
    conv = nn.Conv2d(8, 8, 1)
    convert(conv)
    assert type(conv) is TernConv2d


def test_shared_modules_stay_shared():
    conv = nn.Conv2d(8, 8, 1)
    model = net(one=conv, two=conv)
    report = convert(model)
    assert len(report.ternary) == 1
    assert model.one is model.two


def test_tied_weights_share_their_ternary_weight():
    model = net(
        one=nn.Conv2d(8, 8, 1, bias=False), two=nn.Conv2d(8, 8, 1, bias=False))
    model.two.weight = model.one.weight
    convert(model)
    assert model.one.quantizer is model.two.quantizer
    assert model.one.codes is model.two.codes
    x = torch.randn(2, 8, 3, 3)
    model(x).sum().backward()
    single = nn.Conv2d(8, 8, 1, bias=False)
    single.weight = nn.Parameter(model.one.weight.detach().clone())
    convert(single)
    single(single(x)).sum().backward()
    torch.testing.assert_close(model.one.weight.grad, single.weight.grad)


def mixed() -> nn.Sequential:
    return net(
        conv=nn.Conv2d(8, 8, 1),
        stem=nn.Conv2d(3, 8, 3),
        transposed=nn.ConvTranspose2d(8, 8, 2),
        volume=nn.Conv3d(8, 8, 2),
        deformable=ModulatedDeformConv2dPack(8, 8, 3),
        attention=nn.MultiheadAttention(8, 2),
        query=nn.Embedding(5, 8),
        linear=nn.Linear(8, 8),
        depthwise=nn.Conv2d(8, 8, 3, groups=8),
        fc_cls=nn.Linear(8, 4))


LEFT = {
    'stem': 'stem',
    'volume': 'Conv3d',
    'deformable.conv_offset': 'prediction',
    'query': 'Embedding',
    'depthwise': 'depthwise',
    'fc_cls': 'prediction',
}

TERNARY = [
    'conv', 'transposed', 'deformable', 'attention', 'attention.out_proj',
    'linear'
]


def test_report_names_all_that_is_left_and_why():
    model = mixed()
    report = convert(model)
    assert [x.name for x in report.ternary] == TERNARY
    assert {x.name: x.reason for x in report.left} == LEFT
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    assert sum(x.weights for x in report.layers) == sum(p.numel()
                                                        for p in matrices)
    ternary = sum(layer.latent.numel()
                  for layer in ternary_layers(model).values())
    assert report.ternary_share == pytest.approx(
        ternary / sum(p.numel() for p in matrices))
    text = ' '.join(str(report).split())
    for name, reason in LEFT.items():
        assert name in text.replace(' ', '') or name in text
        assert reason in text or reason.split('.')[0] in text


def test_report_names_layers_that_differ_in_numbers_once():
    layers = [nn.Conv2d(4, 4, 3) for _ in range(3)]
    model = net(first=nn.Conv2d(3, 4, 3), convs=nn.ModuleList(layers))
    lines = [line.strip() for line in str(convert(model)).splitlines()]
    assert lines.count('convs.* (3)') == lines.count('first') == 1
    assert not any('convs.0' in line for line in lines)


def test_report_counts_frozen_layers():
    model = plain()
    model.first.requires_grad_(False)
    assert '1 ternary layer' in str(convert(model))


def test_survey_changes_nothing():
    model = mixed()
    assert len(survey(model, Scope()).ternary) == len(TERNARY)
    assert not ternary_layers(model)


def test_settings_and_scope_from_one_dict():
    model = mixed()
    convert_from_config(model, dict(stem=True, min_sparsity=0.6))
    assert list(ternary_layers(model)) == ['conv', 'stem'] + TERNARY[1:]
    assert model.stem.quantizer.settings.min_sparsity == 0.6


def zeros_of(model) -> dict:
    """Zeros and weights of each ternary layer."""
    codes = {
        name: layer.eval().codes
        for name, layer in ternary_layers(model).items()
    }
    return {name: ((x == 0).sum(), x.numel()) for name, x in codes.items()}


def sizes_apart(**more) -> nn.Sequential:
    return net(small=nn.Conv2d(16, 16, 3), large=nn.Conv2d(16, 128, 5), **more)


def test_large_layers_hold_more_of_a_models_zeros():
    model = sizes_apart()
    report = convert_from_config(model, dict(model_sparsity=0.8))
    small, large = (x.min_sparsity for x in report.ternary)
    assert small < 0.7 < 0.8 < large
    assert f'80.0% of those become zeros, {small:.0%} to {large:.0%}' in str(
        report)
    found = zeros_of(model)
    assert found['small'][0] / found['small'][1] < 0.75
    zeros, weights = map(sum, zip(*found.values()))
    # A filter keeps a whole number of weights, at most the share's.
    assert 0.8 <= zeros / weights < 0.81
    # The same again, whatever the weights: so a file needs to say nothing.
    again = sizes_apart()
    nn.init.zeros_(again.large.weight)
    assert convert(again, Scope(model_sparsity=0.8)) == report


def test_filters_have_the_larger_of_two_shares():
    model = sizes_apart()
    convert_from_config(model, dict(model_sparsity=0.8, min_sparsity=0.75))
    small, large = (x.quantizer.settings.min_sparsity for x in model)
    assert small == 0.75 and large > 0.8


def test_tied_weights_count_once_among_zeros():
    single = convert(sizes_apart(), Scope(model_sparsity=0.8))
    model = sizes_apart(again=nn.Conv2d(16, 128, 5))
    model.again.weight = model.large.weight
    small, large, again = convert(model, Scope(model_sparsity=0.8)).ternary
    assert large.min_sparsity == again.min_sparsity
    assert [small.min_sparsity,
            large.min_sparsity] == [x.min_sparsity for x in single.ternary]


def twice(model):
    convert(model)
    convert(model)


@pytest.mark.parametrize('act, message', [
    (twice, "holds ternary layers already.*'first'.*wrap it once"),
    (lambda m: convert(m, Scope(include=['nek'])),
     "include.*'nek'.*matches no layer.*'first', 'second'"),
    (lambda m: convert(m, Scope(exclude=['nek'])),
     "exclude.*'nek'.*matches no layer"),
    (lambda m: convert(mixed(), Scope(include=['conv', 'volume'])),
     "'volume'.*stays full precision.*Conv3d"),
    (lambda m: convert(m, Scope(exclude=['.'])), 'no layer.*left.*2 layers'),
    (lambda m: convert(nn.ReLU()), 'no layer of ReLU.*0 layers'),
    (lambda m: convert_from_config(m, dict(flor=0.1)),
     "'flor'.*did you mean 'floor'"),
    (lambda m: convert_from_config(m, dict(xyz=1)),
     "'xyz'.*accepted are include, exclude.*threshold"),
    (lambda m: convert_from_config(m, dict(scale='l2')), "scale.*'l2'"),
    (lambda m: convert_from_config(m, dict(model_sparsity='0.8')),
     r"model_sparsity.*\[0, 1\).*'0.8'"),
    (lambda m: convert_from_config(m, 'ttq'), "ternary.*dict.*'ttq'"),
])
def test_wrong_use_gets_a_sentence(act, message):
    with pytest.raises(ValueError, match=message):
        act(plain())


def test_a_norm_is_not_folded_into_latent_weights():
    """mmcv's ConvModule can fold it into the weight at each call in eval."""
    block = ConvModule(
        4, 8, 3, norm_cfg=dict(type='BN'), efficient_conv_bn_eval=True)
    convert(block, reads_image=False)
    block.eval()
    x = torch.randn(2, 4, 6, 6)
    expected = block.activate(
        block.norm(torch.nn.functional.conv2d(x, block.conv.ternary_weight)))
    torch.testing.assert_close(block(x), expected)
