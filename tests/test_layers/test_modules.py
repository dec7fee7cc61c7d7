import copy
import pickle

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from torch import nn

from mmtern import TernarySettings, TernConv2d, TernLinear
from mmtern.ops import mean_threshold, project, ternary_codes


def layers():
    torch.manual_seed(0)
    return [TernConv2d(8, 6, 3, groups=2, bias=True), TernLinear(20, 6)]


def inputs(layer):
    if isinstance(layer, nn.Conv2d):
        return torch.randn(2, 8, 9, 9)
    return torch.randn(2, 20)


both = pytest.mark.parametrize('layer', layers(), ids=['conv', 'linear'])


@both
def test_forward_computes_with_scaled_codes(layer):
    layer.eval()
    rows = layer.weight.detach().flatten(1)
    threshold = mean_threshold(rows)
    values = ternary_codes(rows, threshold) * project(rows,
                                                      threshold).scale('norm')
    x = inputs(layer)
    float_type = type(layer).__mro__[2]
    twin = copy.deepcopy(layer)
    twin.__class__ = float_type
    with torch.no_grad():
        twin.weight.copy_(values.view_as(twin.weight))
        torch.testing.assert_close(layer(x), twin(x))


@both
def test_values_per_channel_and_latent_weight_untouched(layer):
    before = layer.weight.detach().clone()
    layer.train()(inputs(layer)).sum().backward()
    for row in layer.ternary_weight.flatten(1):
        assert len(row.abs().unique()) <= 2
    assert torch.equal(before, layer.weight)
    assert layer.weight.grad is not None


@pytest.mark.parametrize('scale', ['norm', 'lsq'])
def test_keys_are_the_float_layers(scale):
    conv = TernConv2d(3, 4, 3, ternary=dict(scale=scale))
    twin = nn.Conv2d(3, 4, 3)
    assert list(conv.state_dict()) == list(twin.state_dict())
    conv.load_state_dict(twin.state_dict())
    twin.load_state_dict(conv.state_dict())


def test_learned_scales_start_from_a_float_checkpoint():
    conv = TernConv2d(3, 4, 3, ternary=dict(threshold='max', scale='ttq'))
    assert conv.weight_scale.shape == (2, 4)
    twin = nn.Conv2d(3, 4, 3)
    conv.load_state_dict(twin.state_dict())
    rows = twin.weight.detach().flatten(1)
    lsq = conv.projection.scale('lsq')[:, 0]
    torch.testing.assert_close(conv.weight_scale.detach(), lsq.expand(2, 4))
    assert rows.shape == (4, 27)
    again = TernConv2d(3, 4, 3, ternary=dict(threshold='max', scale='ttq'))
    with torch.no_grad():
        conv.weight_scale.mul_(2)
    again.load_state_dict(conv.state_dict())
    assert torch.equal(again.weight_scale, conv.weight_scale)
    conv(torch.randn(1, 3, 5, 5)).sum().backward()
    assert conv.weight_scale.grad.abs().sum() > 0


def test_soft_forward_is_ternary_in_eval_only():
    linear = TernLinear(
        50, 3, ternary=dict(threshold='mean', scale='lsq', forward='soft'))
    linear.quantizer.temperature = 2.0
    assert len(linear.ternary_weight[0].abs().unique()) > 2
    assert len(linear.eval().ternary_weight[0].abs().unique()) == 2


@both
def test_copies_and_pickles(layer):
    layer.train()(inputs(layer)).sum().backward()  # leaves a cached graph
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        x = inputs(layer)
        assert torch.equal(twin.eval()(x), layer.eval()(x))


def test_built_by_conv_cfg_under_any_scope():
    cfg = dict(type='TernConv2d', ternary=dict(min_sparsity=0.5))
    conv = build_conv_layer(cfg, 4, 4, 3)
    assert conv.quantizer.settings.min_sparsity == 0.5
    module = ConvModule(4, 4, 3, conv_cfg=dict(type='TernConv2d'))
    assert isinstance(module.conv, TernConv2d)


def test_bfloat16_autocast_ternarizes_in_float32():
    linear = TernLinear(64, 8)
    expected = linear.ternary_weight
    linear.quantizer.drop_cache()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(linear.ternary_weight, expected)
        assert linear(torch.randn(2, 64)).dtype == torch.bfloat16


@pytest.mark.parametrize('wrong, message', [
    (dict(threshold='median'), "threshold.*'exact'.*'median'"),
    (dict(scale='max'), "scale.*'norm'.*'max'"),
    (dict(forward='medium'), "forward.*'hard'.*'medium'"),
    (dict(floor=1.5), r'floor.*\[0, 1\].*1.5'),
    (dict(min_sparsity=1), r'min_sparsity.*\[0, 1\).*1'),
    (dict(scale='ttq', floor=0.5), "scale='ttq'.*no effect.*floor=0.5"),
    (dict(forward='soft', normalize=False), "soft.*no effect.*normalize=F"),
    (dict(forward='soft', scale='ttq'), "soft.*scale='ttq'"),
])
def test_wrong_settings_say_what_is_accepted(wrong, message):
    with pytest.raises(ValueError, match=message):
        TernarySettings(**wrong)
