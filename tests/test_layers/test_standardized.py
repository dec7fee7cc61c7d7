"""Weight-standardized convs: what computes is ternary."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import ConvAWS2d, ConvWS2d

from mmtern import Scope, convert
from tests.literal import literal_ternary

OPTIONS = [
    dict(),
    dict(groups=2, dilation=2),
    dict(stride=2, padding=1, bias=False),
]


def standardized(layer):
    """By the papers' formulas, filter by filter."""
    filters = []
    for i, filter_ in enumerate(layer.weight):
        centered = filter_ - filter_.mean()
        variance = (centered**2).sum() / (filter_.numel() - 1)
        if isinstance(layer, ConvAWS2d):
            filters.append(layer.weight_gamma[i] * centered /
                           (variance + 1e-5).sqrt() + layer.weight_beta[i])
        else:
            filters.append(centered / (variance.sqrt() + layer.eps))
    return torch.stack(filters)


def pair(kind, options):
    torch.manual_seed(0)
    plain = kind(4, 6, 3, **options).double()
    if kind is ConvAWS2d:
        plain.weight_gamma.uniform_(0.5, 2)
        plain.weight_beta.normal_(std=0.1)
    twin = copy.deepcopy(plain)
    convert(twin, Scope(stem=True))
    return plain, twin


both = pytest.mark.parametrize('kind', [ConvWS2d, ConvAWS2d])


@both
@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('training', [True, False])
def test_forward_and_gradient(kind, options, training):
    plain, twin = pair(kind, options)
    twin.train(training)
    x = torch.randn(2, 4, 7, 6).double()
    standard = standardized(plain)
    ternary = literal_ternary(standard.detach())
    # Straight through to the standardized filters, and on through the
    # standardization.
    weight = standard + (ternary - standard).detach()
    out = twin(x)
    expected = F.conv2d(x, weight, plain.bias, plain.stride, plain.padding,
                        plain.dilation, plain.groups)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(
        twin.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


@both
def test_the_weight_that_computes_has_three_values(kind):
    plain, twin = pair(kind, {})
    for values in twin.eval().ternary_weight.flatten(1):
        assert len(values.unique()) <= 3
        assert len(values.abs().unique()) <= 2


@both
def test_ternary_values_may_stand_for_the_latent_weight(kind):
    plain, twin = pair(kind, {})
    twin.float().eval()
    x = torch.randn(2, 4, 7, 6)
    out, values = twin(x), twin.ternary_weight.detach().clone()
    state = twin.state_dict()
    twin.load_state_dict(dict(state, weight=values))
    assert torch.equal(twin.ternary_weight, values)
    assert torch.equal(twin(x), out)


@both
def test_equal_values_give_a_gradient(kind):
    plain, twin = pair(kind, {})
    with torch.no_grad():
        twin.weight[0] = 0
        twin.weight[1] = 0.3
    twin(torch.randn(2, 4, 7, 6).double()).sum().backward()
    assert twin.weight.grad.isfinite().all()


@both
def test_keys_and_float_checkpoints(kind):
    plain, twin = pair(kind, {})
    assert list(twin.state_dict()) == list(plain.state_dict())
    twin.load_state_dict(plain.state_dict())
    before = twin.eval().ternary_weight
    # A checkpoint of a plain conv: AWS takes mean and variance from it.
    state = dict(weight=plain.weight, bias=plain.bias)
    for layer in (plain, twin):
        layer.load_state_dict(state, strict=kind is ConvWS2d)
    torch.testing.assert_close(
        twin.ternary_weight.detach(),
        literal_ternary(standardized(plain).detach()),
        rtol=1e-5,
        atol=1e-6)
    assert before.shape == plain.weight.shape
