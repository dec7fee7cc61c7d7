"""Transposed convolutions with ternary filters."""
from typing import Any, List, Optional

from mmengine.registry import MODELS
from torch import Tensor, nn

from .modules import TernaryWeight, register_ternary
from .stand_in import StandIn


@MODELS.register_module()
@register_ternary(nn.ConvTranspose2d)
class TernConvTranspose2d(TernaryWeight, nn.ConvTranspose2d):
    """Transposed 2D convolution whose filters hold the values {-a, 0, +a}.

    A filter is what adds up to one output channel, as in a convolution: with
    a scale for each, an output channel is a scaled sum of inputs. ``weight``
    keeps PyTorch's shape (C_in, C_out/groups, kH, kW).

    Args:
        *args, **kwargs: Those of ``nn.ConvTranspose2d``, and ``ternary`` as
            of :class:`TernaryWeight`.
    """

    # A property in place of a value, which nothing sets.
    @property
    def transposed_groups(self) -> int:  # type: ignore[override]
        return self.groups

    def forward(self,
                x: Tensor,
                output_size: Optional[List[int]] = None) -> Tensor:
        layer: Any = StandIn(self, weight=self.ternary_weight)
        return nn.ConvTranspose2d.forward(layer, x, output_size)
