"""Batch norm folded into ternary convs, as mmdet's tools do for speed."""
import copy

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from mmtern import TernConv2d
from ..small_detectors import build, small_retinanet, ternary_twin

SETTINGS = [{},
            dict(scale='lsq'),
            dict(threshold='exact'),
            dict(threshold='max', min_sparsity=0.6),
            dict(model_sparsity=0.8),
            dict(scale='ttq'),
            dict(scale='ttq', threshold='max')]


def spread(module: nn.Module) -> None:
    """Norms and trained scales like those of a trained detector, factors of
    both signs among them."""
    torch.manual_seed(1)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.normal_()
                part.bias.uniform_(-1, 1)
                part.running_mean.uniform_(-1, 1)
                part.running_var.uniform_(0.3, 3)
            if getattr(part, 'weight_scale', None) is not None:
                part.weight_scale.mul_(torch.rand_like(part.weight_scale) + 1)


@pytest.mark.parametrize('ternary', SETTINGS)
@torch.no_grad()
def test_outputs_stay(ternary):
    detector = build(ternary_twin(small_retinanet(), **ternary)).eval()
    spread(detector)
    images = torch.randn(1, 3, 64, 96)
    before = detector(images)
    fused = fuse_conv_bn(copy.deepcopy(detector)).eval()
    kinds = {type(x) for x in fused.backbone.modules()}
    assert nn.BatchNorm2d not in kinds and TernConv2d in kinds
    for one, other in zip(before, fused(images)):
        for a, b in zip(one, other):
            torch.testing.assert_close(
                b, a, rtol=0, atol=1e-4 * float(a.abs().max()))


@pytest.mark.parametrize('ternary', SETTINGS[:3] + SETTINGS[5:])
@torch.no_grad()
def test_torchs_own_fusion(ternary):
    torch.manual_seed(0)
    conv = TernConv2d(8, 6, 3, bias=False, ternary=ternary).eval()
    norm = nn.BatchNorm2d(6).eval()
    spread(nn.Sequential(conv, norm))
    x = torch.randn(2, 8, 9, 9)
    expected = norm(conv(x))
    torch.testing.assert_close(
        fuse_conv_bn_eval(conv, norm)(x), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_other_weights_bring_their_own_scales():
    """Loading by assignment ends with the scales of the file, whichever is
    assigned first."""
    torch.manual_seed(0)
    source, target = (
        TernConv2d(8, 6, 3, ternary=dict(scale='ttq')).eval()
        for _ in range(2))
    spread(source)
    target.load_state_dict(
        copy.deepcopy(source.state_dict()), strict=True, assign=True)
    assert torch.equal(target.weight_scale, source.weight_scale)
    x = torch.randn(2, 8, 9, 9)
    assert torch.equal(target(x), source(x))
    # A weight alone leaves them as they were.
    target.weight = nn.Parameter(torch.randn_like(target.weight))
    assert torch.equal(target.weight_scale, source.weight_scale)
