"""1D convolutions with ternary filters."""
from torch import Tensor, nn

from .modules import TernaryWeight, register_ternary


@register_ternary(nn.Conv1d)
class TernConv1d(TernaryWeight, nn.Conv1d):
    """1D convolution whose filters hold the values {-a, 0, +a}; mmdet's heads
    that work on points have them."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.ternary_weight, self.bias)
