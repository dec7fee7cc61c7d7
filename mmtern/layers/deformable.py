"""Deformable convolutions with ternary filters; what predicts their offsets
is a convolution of its own."""
from mmcv.ops import (DeformConv2d, DeformConv2dPack, ModulatedDeformConv2d,
                      ModulatedDeformConv2dPack)
from torch import Tensor

from .modules import TernaryWeight, register_ternary
from .stand_in import StandIn


@register_ternary(DeformConv2d)
class TernDeformConv2d(TernaryWeight, DeformConv2d):
    """Deformable convolution (arXiv 1703.06211), given its offsets."""

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        layer = StandIn(self, weight=self.ternary_weight)
        return DeformConv2d.forward(layer, x, offset)


@register_ternary(DeformConv2dPack)
class TernDeformConv2dPack(TernaryWeight, DeformConv2dPack, DeformConv2d):
    """Deformable convolution (arXiv 1703.06211) that predicts its
    offsets."""

    def forward(self, x: Tensor) -> Tensor:
        layer = StandIn(self, weight=self.ternary_weight)
        return DeformConv2dPack.forward(layer, x)


@register_ternary(ModulatedDeformConv2d)
class TernModulatedDeformConv2d(TernaryWeight, ModulatedDeformConv2d):
    """Modulated deformable convolution (arXiv 1811.11168), given its offsets
    and masks."""

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        layer = StandIn(self, weight=self.ternary_weight)
        return ModulatedDeformConv2d.forward(layer, x, offset, mask)


@register_ternary(ModulatedDeformConv2dPack)
class TernModulatedDeformConv2dPack(TernaryWeight, ModulatedDeformConv2dPack,
                                    ModulatedDeformConv2d):
    """Modulated deformable convolution (arXiv 1811.11168) that predicts its
    offsets and masks."""

    def forward(self, x: Tensor) -> Tensor:
        layer = StandIn(self, weight=self.ternary_weight)
        return ModulatedDeformConv2dPack.forward(layer, x)
