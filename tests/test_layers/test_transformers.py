"""Blocks of transformers compute what mmdet's own do with literal ternary
weights as their parameters, and get the same gradients."""
import copy

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.models.backbones.pvt import PVTEncoderLayer
from mmdet.models.backbones.swin import SwinBlock
from mmdet.models.layers import (ConditionalAttention,
                                 DeformableDetrTransformerDecoderLayer,
                                 DetrTransformerEncoderLayer, PatchMerging)
from torch import nn

from mmtern import Scope, convert, ternary_layers
from tests.literal import literal_ternary

DIMS, HEADS, FFN = 32, 4, 48
ATTENTION = dict(embed_dims=DIMS, num_heads=HEADS, batch_first=True)
FEEDFORWARD = dict(embed_dims=DIMS, feedforward_channels=FFN)


class Swin(nn.Module):
    """Two blocks, the second with moved windows, and the step to the next
    stage; 6 x 5 does not divide into windows of 4 x 4."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(DIMS, HEADS, FFN, window_size=4, shift=shift)
            for shift in (False, True))
        self.down = PatchMerging(DIMS, 2 * DIMS)

    def forward(self, x):
        for block in self.blocks:
            x = block(x, (6, 5))
        return self.down(x, (6, 5))[0]


class Pvt(nn.Module):
    """A layer whose keys and values are fewer than its queries."""

    def __init__(self):
        super().__init__()
        self.layer = PVTEncoderLayer(DIMS, HEADS, FFN, sr_ratio=2)

    def forward(self, x):
        return self.layer(x[:, :24], (6, 4))


class Deformable(nn.Module):
    """A decoder layer that samples two scales, 6 x 4 and 3 x 2."""

    def __init__(self):
        super().__init__()
        self.layer = DeformableDetrTransformerDecoderLayer(
            self_attn_cfg=ATTENTION,
            cross_attn_cfg=dict(ATTENTION, num_levels=2),
            ffn_cfg=FEEDFORWARD)

    def forward(self, x):
        shapes = torch.tensor([[6, 4], [3, 2]])
        points = torch.rand(
            len(x), 7, 2, 2, generator=torch.Generator().manual_seed(2))
        padded = torch.zeros(len(x), 30, dtype=torch.bool)
        padded[0, 20:24] = True
        return self.layer(
            x[:, :7],
            value=x,
            query_pos=x[:, 7:14],
            reference_points=points.to(x),
            spatial_shapes=shapes,
            level_start_index=torch.tensor([0, 24]),
            key_padding_mask=padded)


class Encoder(nn.Module):
    """A layer of DETR's encoder, with padded keys."""

    def __init__(self):
        super().__init__()
        self.layer = DetrTransformerEncoderLayer(ATTENTION, FEEDFORWARD)

    def forward(self, x):
        padded = torch.zeros(len(x), 30, dtype=torch.bool)
        padded[0, 20:] = True
        return self.layer(x, x.flip(1), padded)


class Conditional(nn.Module):
    """Cross attention that keeps content and place apart."""

    def __init__(self):
        super().__init__()
        self.attention = ConditionalAttention(DIMS, HEADS, cross_attn=True)

    def forward(self, x):
        return self.attention(
            query=x[:, :7],
            key=x[:, 7:20],
            query_pos=x[:, :7],
            key_pos=x[:, 7:20],
            ref_sine_embed=x[:, 1:8])


# Block and how many of its layers are ternary.
BLOCKS = {Swin: 9, Pvt: 5, Deformable: 6, Encoder: 4, Conditional: 7}


def block_pair(kind):
    """The block with random weights in float64, without dropout, and its
    ternary twin."""
    torch.manual_seed(0)
    plain = kind().double()
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, (nn.Linear, MultiScaleDeformableAttention)):
            for parameter in module.parameters(recurse=False):
                nn.init.normal_(parameter, std=0.2)
    twin = copy.deepcopy(plain)
    convert(twin, Scope(stem=True))
    return plain, twin, torch.randn(2, 30, DIMS).double()


def literal_twin(plain, twin):
    """mmdet's block with literal ternary weights, and these by name."""
    copied, weights = copy.deepcopy(plain), {}
    for name, layer in ternary_layers(twin).items():
        weight = getattr(copied.get_submodule(name), layer.latent_name)
        weight.data = literal_ternary(
            weight.detach().flatten(1)).view_as(weight)
        weights[name] = weight
    return copied, weights


@pytest.mark.parametrize('kind', BLOCKS)
@pytest.mark.parametrize('training', [True, False])
def test_forward_and_gradient(kind, training):
    plain, twin, x = block_pair(kind)
    literal, weights = literal_twin(plain, twin)
    assert len(weights) == BLOCKS[kind]
    ours, theirs = (model.train(training)(x) for model in (twin, literal))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours, plain.eval()(x), rtol=1e-2, atol=1e-2)
    for out in (ours, theirs):
        (out**2).sum().backward()
    for name, layer in ternary_layers(twin).items():
        torch.testing.assert_close(
            layer.latent.grad, weights[name].grad, rtol=1e-4, atol=1e-4)

    # In inference, where PyTorch has faster ways of its own.
    with torch.no_grad():
        again = twin.eval()(x)
    torch.testing.assert_close(again, theirs.detach(), rtol=1e-5, atol=1e-6)
