"""Switchable atrous convs: both convolutions use the same ternary filters."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import SAConv2d
from torch import nn

from mmtern import Scope, convert, freeze, ternary_layers
from tests.literal import literal_ternary

SCOPE = Scope(include=['^conv$'], stem=True)


def pair(**options):
    torch.manual_seed(0)
    plain = SAConv2d(4, 6, 3, padding=1, **options).double()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(std=0.2)
        plain.weight_gamma.uniform_(0.5, 2)
        plain.weight_beta.normal_(std=0.1)
    twin = nn.ModuleDict(dict(conv=copy.deepcopy(plain)))
    report = convert(twin, SCOPE)
    assert [x.name for x in report.ternary] == ['conv']
    reasons = {x.name: x.reason for x in report.left}
    assert reasons['conv.weight_diff'] == 'SAConv2d.weight_diff'
    return plain, twin.conv, torch.randn(2, 4, 9, 8).double()


def standardized(plain):
    weight = plain.weight
    axes = (1, 2, 3)
    centered = weight - weight.mean(axes, keepdim=True)
    variance = centered.square().sum(axes, keepdim=True) / 35
    return (plain.weight_gamma * centered / (variance + 1e-5).sqrt() +
            plain.weight_beta)


def literal(plain, x, weight):
    """The paper's equation, without deformation."""
    mean = x.mean((2, 3), keepdim=True)
    x = x + plain.pre_context(mean)
    pooled = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode='reflect'), 5, 1)
    switch = plain.switch(pooled)
    out = switch * F.conv2d(
        x, weight, padding=1) + (1 - switch) * F.conv2d(
            x, weight + plain.weight_diff, padding=3, dilation=3)
    return out + plain.post_context(out.mean((2, 3), keepdim=True))


@pytest.mark.parametrize('training', [True, False])
def test_forward_and_gradient(training):
    plain, twin, x = pair()
    twin.train(training)
    standard = standardized(plain)
    ternary = literal_ternary(standard.detach())
    expected = literal(plain, x, standard + (ternary - standard).detach())
    out = twin(x)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    for name in ('weight', 'weight_diff'):
        torch.testing.assert_close(
            getattr(twin, name).grad,
            getattr(plain, name).grad,
            rtol=1e-4,
            atol=1e-4)


@pytest.mark.parametrize('use_deform', [False, True])
def test_frozen_reloaded_and_the_same(use_deform):
    plain, twin, x = pair(use_deform=use_deform)
    twin, x = twin.float().eval(), x.float()
    assert list(twin.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        expected = twin(x)
        frozen = freeze(twin)
        assert not ternary_layers(frozen)
        assert torch.equal(frozen(x), expected)
        assert torch.equal(copy.deepcopy(frozen)(x), expected)
        values = twin.ternary_weight
        twin.load_state_dict(dict(twin.state_dict(), weight=values))
        assert torch.equal(twin(x), expected)
    for row in values.flatten(1):
        assert len(row.abs().unique()) <= 2
