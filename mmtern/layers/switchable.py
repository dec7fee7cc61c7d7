"""Switchable atrous convolutions with ternary filters."""
from mmcv.cnn.bricks import ConvAWS2d
from mmcv.ops import SAConv2d
from torch import Tensor

from .modules import register_ternary
from .standardized import Standardized


class PlainSAConv2d(SAConv2d):
    """Switchable atrous convolution with its weight as it is, not
    standardized."""

    def _get_weight(self, weight: Tensor) -> Tensor:
        return weight


@register_ternary(SAConv2d)
class TernSAConv2d(Standardized, SAConv2d, ConvAWS2d):
    """Switchable atrous convolution (arXiv 2006.02334): the input is convolved
    twice, with a dilation and with three times that.

    Both use the same standardized filters, which become ternary. What the
    second adds to them, ``weight_diff``, stays in full precision: it starts
    from zero and is small beside them, so that the sum of two ternary filters
    would round it away or cost as much as a second convolution.
    """
    plain_type = PlainSAConv2d

    def standardize(self, weight: Tensor) -> Tensor:
        return ConvAWS2d._get_weight(self, weight)

    def _get_weight(self, weight: Tensor) -> Tensor:
        # Where SAConv2d's forward asks for standardized filters.
        return self.ternary_weight

    def forward(self, x: Tensor) -> Tensor:
        return SAConv2d.forward(self, x)
