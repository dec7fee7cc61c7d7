"""Convolutions that pad their input to fit, with ternary filters."""
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from torch import Tensor, nn

from .modules import TernaryWeight, register_ternary
from .stand_in import StandIn


@register_ternary(Conv2dAdaptivePadding)
class TernConv2dAdaptivePadding(TernaryWeight, Conv2dAdaptivePadding,
                                nn.Conv2d):
    """Convolution with TensorFlow's padding 'same'."""

    def forward(self, x: Tensor) -> Tensor:
        layer = StandIn(self, weight=self.ternary_weight)
        return Conv2dAdaptivePadding.forward(layer, x)
