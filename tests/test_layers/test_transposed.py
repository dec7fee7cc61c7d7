"""Transposed convs compute with ternary filters, output channel by output
channel."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.wrappers import ConvTranspose2d
from torch import nn

from mmtern import Scope, TernarySettings, convert
from mmtern.layers import TernConvTranspose2d
from mmtern.ops import filters_of, weight_of
from tests.literal import literal_ternary

OPTIONS = [
    dict(),
    dict(groups=2),
    dict(bias=False, stride=2, padding=1, output_padding=1),
    dict(dilation=2, groups=4),
]


def literal_filters(weight, groups):
    """The weights that add up to each output channel, gathered by hand."""
    size, per_group = weight.shape[0] // groups, weight.shape[1]
    return torch.stack([
        weight[g * size:(g + 1) * size, c] for g in range(groups)
        for c in range(per_group)
    ])


def literal_weight(weight, groups):
    """The ternary weight in the shape of ``weight``."""
    size, per_group = weight.shape[0] // groups, weight.shape[1]
    out = torch.empty_like(weight)
    filters = literal_ternary(literal_filters(weight, groups))
    for g in range(groups):
        for c in range(per_group):
            out[g * size:(g + 1) * size, c] = filters[g * per_group + c]
    return out


def pair(**options):
    torch.manual_seed(0)
    plain = nn.ConvTranspose2d(8, 12, 3, **options).double()
    twin = copy.deepcopy(plain)
    convert(twin, Scope(depthwise=True))
    assert type(twin) is TernConvTranspose2d
    return plain, twin, torch.randn(2, 8, 5, 4).double()


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('training', [True, False])
def test_forward_and_gradient(options, training):
    plain, twin, x = pair(**options)
    twin.train(training)
    weight = literal_weight(plain.weight.detach(), plain.groups)
    weight.requires_grad_()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out = twin(ours)
    expected = F.conv_transpose2d(theirs, weight, plain.bias, plain.stride,
                                  plain.padding, plain.output_padding,
                                  plain.groups, plain.dilation)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    # At temperature 0 the gradient goes straight through.
    torch.testing.assert_close(
        twin.weight.grad, weight.grad, rtol=1e-5, atol=1e-5)
    if plain.bias is not None:
        torch.testing.assert_close(
            twin.bias.grad, plain.bias.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('options', OPTIONS)
def test_a_row_of_codes_is_an_output_channel(options):
    plain, twin, x = pair(**options)
    twin.eval()
    assert len(twin.codes) == 12
    filters = filters_of(twin.ternary_weight, twin.groups).flatten(1)
    for values in filters:
        assert len(values.abs().unique()) <= 2
    assert twin.ternary_weight.shape == plain.weight.shape
    assert torch.equal(twin.latent.detach(),
                       plain.weight.detach()), 'latent weight is kept'
    keys = plain.state_dict()
    assert list(twin.state_dict()) == list(keys)
    twin.load_state_dict(keys)


def test_an_output_size_is_passed_on():
    plain, twin, x = pair(stride=2)
    size = [11, 10]
    assert twin(x, size).shape == plain(x, size).shape


def test_trained_scales_are_those_of_output_channels():
    plain, twin, x = pair()
    convert(plain, settings=TernarySettings(threshold='max', scale='ttq'))
    assert plain.weight_scale.shape == (2, 12)
    plain(x).sum().backward()
    assert plain.weight_scale.grad.abs().sum() > 0


def test_mmcvs_wrapper_too():
    layer = ConvTranspose2d(4, 6, 2)
    convert(layer)
    assert type(layer) is TernConvTranspose2d


@pytest.mark.parametrize('groups', [0, 1, 2, 4])
def test_filters_there_and_back(groups):
    weight = torch.randn(8, 3, 2, 2)
    filters = filters_of(weight, groups)
    assert torch.equal(weight_of(filters, groups), weight)
    expected = literal_filters(weight, groups) if groups else weight
    assert torch.equal(filters, expected)


@pytest.mark.parametrize('groups', [-1, 3])
def test_groups_that_do_not_fit(groups):
    with pytest.raises(ValueError, match='8 filters cannot be divided'):
        weight_of(torch.randn(8, 3, 2, 2), groups)
