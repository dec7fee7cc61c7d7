"""Deformable convs compute with ternary filters, their offsets stay."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import (DeformConv2d, DeformConv2dPack, ModulatedDeformConv2d,
                      ModulatedDeformConv2dPack)

from mmtern import convert, ternary_layers
from tests.literal import literal_ternary

OPTIONS = [
    dict(),
    dict(groups=2, deform_groups=2),
    dict(dilation=2, padding=2, stride=2),
]
TYPES = [
    DeformConv2d, DeformConv2dPack, ModulatedDeformConv2d,
    ModulatedDeformConv2dPack
]
SIZE = 6


def literal(x, weight, bias, layer, offset, mask):
    """Sum over the kernel's points: each is a bilinear sample of the input,
    moved by its offset and times its mask, times the point's weights."""
    (stride, _), (pad, _), (step, _) = (layer.stride, layer.padding,
                                        layer.dilation)
    n, channels, height, width = x.shape
    out_h, out_w = offset.shape[2:]
    rows = torch.arange(out_h).view(-1, 1) * stride - pad
    columns = torch.arange(out_w).view(1, -1) * stride - pad
    offset = offset.view(n, layer.deform_groups, 9, 2, out_h, out_w)
    mask = mask.view(n, layer.deform_groups, 9, out_h, out_w)
    samples = []
    for point in range(9):
        parts = []
        for g, part in enumerate(x.chunk(layer.deform_groups, 1)):
            y = rows + point // 3 * step + offset[:, g, point, 0]
            z = columns + point % 3 * step + offset[:, g, point, 1]
            grid = torch.stack([
                2 * z / (width - 1) - 1,
                2 * y / (height - 1) - 1,
            ], -1)
            sample = F.grid_sample(
                part, grid, padding_mode='zeros', align_corners=True)
            parts.append(sample * mask[:, g, point, None])
        samples.append(torch.cat(parts, 1))
    samples = torch.stack(samples, 2)
    outs = []
    for part, filters in zip(
            samples.chunk(layer.groups, 1), weight.chunk(layer.groups)):
        outs.append(torch.einsum('ncphw,ocp->nohw', part, filters.flatten(2)))
    out = torch.cat(outs, 1)
    return out if bias is None else out + bias.view(-1, 1, 1)


def modulated(kind):
    return kind in TYPES[2:]


def build(kind, options):
    torch.manual_seed(0)
    options = dict(dict(padding=1), **options)
    plain = kind(4, 6, 3, bias=modulated(kind), **options).double()
    if hasattr(plain, 'conv_offset'):
        torch.nn.init.normal_(plain.conv_offset.weight, std=0.05)
        torch.nn.init.normal_(plain.conv_offset.bias, std=0.3)
    if modulated(kind):
        torch.nn.init.normal_(plain.bias)
    twin = copy.deepcopy(plain)
    report = convert(torch.nn.ModuleDict(dict(conv=twin)))
    assert [x.name for x in report.ternary] == ['conv']
    return plain, twin


def offsets_of(plain, x):
    """Arguments beside the input, and offsets and masks."""
    side = (SIZE + 2 * plain.padding[0] - 2 * plain.dilation[0] -
            1) // plain.stride[0] + 1
    points = 9 * plain.deform_groups
    if not hasattr(plain, 'conv_offset'):
        offset = torch.randn(2, 2 * points, side, side).double() * 0.6
        mask = torch.rand(2, points, side, side).double()
        if modulated(type(plain)):
            return (offset, mask), offset, mask
        return (offset, ), offset, torch.ones_like(mask)
    predicted = plain.conv_offset(x).detach()
    if not modulated(type(plain)):
        mask = torch.ones(2, points, side, side).double()
        return (), predicted, mask
    return (), predicted[:, :2 * points], predicted[:, 2 * points:].sigmoid()


@pytest.mark.parametrize('kind', TYPES)
@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('training', [True, False])
def test_forward_and_gradient(kind, options, training):
    plain, twin = build(kind, options)
    twin.train(training)
    x = torch.randn(2, 4, SIZE, SIZE).double()
    given, offset, mask = offsets_of(plain, x)
    weight = literal_ternary(plain.weight.detach()).requires_grad_()
    bias = getattr(plain, 'bias', None)
    out = twin(x, *given)
    expected = literal(x, weight, bias, plain, offset, mask)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(
        twin.weight.grad, weight.grad, rtol=1e-4, atol=1e-4)
    if bias is not None:
        torch.testing.assert_close(
            twin.bias.grad, bias.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', TYPES)
def test_keys_and_float_checkpoints(kind):
    plain, twin = build(kind, {})
    assert list(twin.state_dict()) == list(plain.state_dict())
    twin.load_state_dict(plain.state_dict())
    assert len(ternary_layers(twin)) == 1


def test_an_image_smaller_than_the_kernel():
    plain, twin = build(DeformConv2d, {})
    x = torch.randn(1, 4, 2, 5).double()
    offset = torch.zeros(1, 18, 2, 5).double()
    weight = literal_ternary(plain.weight.detach())
    torch.testing.assert_close(
        twin(x, offset).detach(),
        F.conv2d(x, weight, padding=1),
        rtol=1e-5,
        atol=1e-6)
