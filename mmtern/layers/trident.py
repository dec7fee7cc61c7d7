"""Convolutions of TridentNet with ternary filters."""
from typing import List, Sequence

from mmdet.models.backbones.trident_resnet import TridentConv
from torch import Tensor

from .modules import TernaryWeight, register_ternary
from .stand_in import StandIn


@register_ternary(TridentConv)
class TernTridentConv(TernaryWeight, TridentConv):
    """Convolution of several branches (arXiv 1901.01892) that share one
    weight and differ in dilation; they share its ternary filters, too."""

    def forward(self, inputs: Sequence[Tensor]) -> List[Tensor]:
        layer = StandIn(self, weight=self.ternary_weight)
        return TridentConv.forward(layer, inputs)
