"""A network of every type of layer that has a ternary twin."""
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding, ConvAWS2d, ConvWS2d
from mmcv.ops import (DeformConv2d, DeformConv2dPack, ModulatedDeformConv2d,
                      ModulatedDeformConv2dPack, SAConv2d)
from mmdet.models.backbones.trident_resnet import TridentConv
from torch import Tensor, nn

from mmtern import Scope, TernarySettings, convert, ternary_layers

LAYERS = [
    'conv', 'padded', 'standardized', 'adapted', 'transposed', 'grouped',
    'deformable', 'predicting', 'modulated', 'masking', 'switchable',
    'switchable.switch', 'switchable.pre_context', 'switchable.post_context',
    'trident', 'line', 'attention', 'attention.out_proj', 'linear'
]


class EveryType(nn.Module):
    """Each layer once, with 8 channels between them; (N, 8, 6, 6) to
    (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.padded = Conv2dAdaptivePadding(8, 8, 3, stride=2)
        self.standardized = ConvWS2d(8, 8, 3, padding=1)
        self.adapted = ConvAWS2d(8, 8, 3, padding=1)
        self.transposed = nn.ConvTranspose2d(8, 10, 2, stride=2)
        self.grouped = nn.ConvTranspose2d(10, 8, 3, padding=1, groups=2)
        self.deformable = DeformConv2d(8, 8, 3, padding=1)
        self.predicting = DeformConv2dPack(8, 8, 3, padding=1)
        self.modulated = ModulatedDeformConv2d(8, 8, 3, padding=1)
        self.masking = ModulatedDeformConv2dPack(8, 8, 3, padding=1)
        self.switchable = SAConv2d(8, 8, 3, padding=1)
        self.trident = TridentConv(
            8, 8, 3, trident_dilations=(1, 2, 3), test_branch_idx=-1)
        self.line = nn.Conv1d(8, 8, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.padded(self.conv(x).relu()).relu()
        x = self.adapted(self.standardized(x).relu()).relu()
        x = self.grouped(self.transposed(x).relu()).relu()
        offset, mask = x.new_full((len(x), 18, 6, 6), 0.3), x[:, :1]
        mask = mask.sigmoid().expand(-1, 9, -1, -1).contiguous()
        x = self.predicting(self.deformable(x, offset).relu()).relu()
        x = self.masking(self.modulated(x, offset, mask).relu()).relu()
        x = sum(self.trident([self.switchable(x).relu()] * 3))
        x = self.line(x.flatten(2)).transpose(1, 2)
        x = self.attention(x, x, x)[0]
        return self.linear(x.mean(1))


def every_type(seed: int = 0, ternary: bool = True, **settings) -> EveryType:
    """The network with random weights, all layers but the offset convs
    ternary, in eval."""
    torch.manual_seed(seed)
    model = EveryType()
    for layer in (model.predicting, model.masking):
        nn.init.normal_(layer.conv_offset.weight, std=0.1)
    for layer in (model.adapted, model.switchable):
        layer.weight_gamma.uniform_(0.5, 2)
        layer.weight_beta.normal_(std=0.1)
    # Zeros as they are built.
    nn.init.normal_(model.switchable.weight_diff, std=0.1)
    nn.init.normal_(model.trident.weight, std=0.1)
    for name in ('switch', 'pre_context', 'post_context'):
        nn.init.normal_(getattr(model.switchable, name).weight, std=0.3)
    if ternary:
        convert(model, Scope(stem=True), TernarySettings(**settings))
        assert list(ternary_layers(model)) == LAYERS
    return model.eval()


def random_images(count: int = 2) -> Tensor:
    """The same each time, (count, 8, 6, 6)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 8, 6, 6, generator=generator)
