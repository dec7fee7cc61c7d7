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
    twin = copy.deepcopy(layer)
    twin.ternarizer.active = False
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


@pytest.mark.parametrize('scale, signs', [('learned', 1), ('ttq', 2)])
def test_learned_scales_start_from_a_float_checkpoint(scale, signs):
    conv = TernConv2d(3, 4, 3, ternary=dict(threshold='max', scale=scale))
    assert conv.weight_scale.shape == (signs, 4)
    twin = nn.Conv2d(3, 4, 3)
    conv.load_state_dict(twin.state_dict())
    rows = twin.weight.detach().flatten(1)
    lsq = conv.ternarizer.project(conv.weight).scale('lsq')[:, 0]
    torch.testing.assert_close(conv.weight_scale.detach(),
                               lsq.expand(signs, 4))
    assert rows.shape == (4, 27)
    again = TernConv2d(3, 4, 3, ternary=dict(threshold='max', scale=scale))
    with torch.no_grad():
        conv.weight_scale.mul_(2)
    again.load_state_dict(conv.state_dict())
    assert torch.equal(again.weight_scale, conv.weight_scale)
    conv(torch.randn(1, 3, 5, 5)).sum().backward()
    assert conv.weight_scale.grad.abs().sum() > 0


def test_soft_forward_is_ternary_in_eval_only():
    linear = TernLinear(
        50, 3, ternary=dict(threshold='mean', scale='lsq', forward='soft'))
    linear.ternarizer.temperature = 2.0
    assert len(linear.ternary_weight[0].abs().unique()) > 2
    assert len(linear.eval().ternary_weight[0].abs().unique()) == 2


def test_one_ternarization_per_step_for_shared_layers_and_accumulation():
    conv = TernConv2d(4, 4, 3, padding=1)
    twin = copy.deepcopy(conv)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)
    gate, first = conv.ternarizer.compact(conv.weight, True)
    batches = [torch.randn(1, 4, 5, 5) for _ in range(3)]
    for x in batches:
        conv(conv(x)).square().sum().backward()
        # One node, so one gradient factor, and one set of codes.
        assert conv.ternarizer.compact(conv.weight, True)[0] is gate
        assert conv.ternarizer.compact(conv.weight, True)[1] is first
    for x in batches:  # the same gradient, ternarized anew each time
        twin.ternarizer.drop_cache()
        twin(twin(x)).square().sum().backward()
    torch.testing.assert_close(conv.weight.grad, twin.weight.grad)
    optimizer.step()
    assert conv.ternarizer.compact(conv.weight, True)[1] is not first


def changed_by_step(conv):
    conv.weight.grad = torch.randn_like(conv.weight)
    torch.optim.SGD([conv.weight], lr=1.0).step()


def changed_by_loading(conv):
    conv.load_state_dict(TernConv2d(4, 4, 3).state_dict())


def changed_by_assigning(conv):
    conv.load_state_dict(TernConv2d(4, 4, 3).state_dict(), assign=True)


def changed_by_dtype(conv):
    conv.half().float()
    conv.weight.data.neg_()


def changed_in_place(conv):
    with torch.no_grad():
        conv.weight[0].neg_()


def changed_parameter(conv):
    conv.weight = nn.Parameter(torch.randn_like(conv.weight))


def changed_by_data(conv):
    conv.train()
    conv.weight.data.neg_()
    conv.eval()


@pytest.mark.parametrize('change', [
    changed_by_step, changed_by_loading, changed_by_assigning,
    changed_by_dtype, changed_in_place, changed_parameter, changed_by_data
])
def test_no_stale_weights(change):
    torch.manual_seed(0)
    conv = TernConv2d(4, 4, 3).eval()
    with torch.no_grad():
        before = conv.ternary_weight.clone()
        assert conv.ternary_weight is conv.ternary_weight
    change(conv)
    fresh = copy.deepcopy(conv)
    assert not torch.equal(before, conv.ternary_weight)
    assert torch.equal(fresh.ternary_weight, conv.ternary_weight)


@both
def test_copies_and_pickles(layer):
    layer.train()(inputs(layer)).sum().backward()  # leaves a cached graph
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        x = inputs(layer)
        assert torch.equal(twin.eval()(x), layer.eval()(x))


def test_built_by_conv_cfg_under_any_scope():
    cfg = dict(type='TernConv2d', ternary=dict(min_sparsity=0.5))
    conv = build_conv_layer(cfg, 4, 4, 3)
    assert conv.ternarizer.settings.min_sparsity == 0.5
    module = ConvModule(4, 4, 3, conv_cfg=dict(type='TernConv2d'))
    assert isinstance(module.conv, TernConv2d)


def test_bfloat16_autocast_ternarizes_in_float32():
    linear = TernLinear(64, 8)
    expected = linear.ternary_weight
    linear.ternarizer.drop_cache()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(linear.ternary_weight, expected)
        assert linear(torch.randn(2, 64)).dtype == torch.bfloat16


@pytest.mark.parametrize('wrong, message', [
    (dict(threshold='median'), "threshold.*'exact'.*'median'"),
    (dict(scale='max'), "scale.*'norm'.*'max'"),
    (dict(forward='medium'), "forward.*'hard'.*'medium'"),
    (dict(floor=1.5), r'floor.*\[0, 1\].*1.5'),
    (dict(min_sparsity=1), r'min_sparsity.*\[0, 1\).*1'),
    (dict(refresh_interval=0), 'refresh_interval.*whole number >= 1.*0'),
    (dict(refresh_interval=2.5), 'refresh_interval.*whole number.*2.5'),
    (dict(refresh_interval=True), 'refresh_interval.*whole number.*True'),
    (dict(forward='soft', scale='ttq'), "soft.*scale='ttq'"),
])
def test_wrong_settings_say_what_is_accepted(wrong, message):
    with pytest.raises(ValueError, match=message):
        TernarySettings(**wrong)
