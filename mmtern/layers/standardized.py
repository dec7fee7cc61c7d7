"""Weight-standardized convolutions with ternary filters."""
from typing import Any, cast

import torch
from mmcv.cnn.bricks import ConvAWS2d, ConvWS2d
from torch import Tensor, nn

from .modules import TernConv2d, register_ternary


class Standardized(TernConv2d):
    """What both kinds share: filters are standardized, then ternarized.

    The standardization is part of the way from the latent weight to the
    ternary filters, and its gradient is part of the way back; what a layer
    computes with is ternary. It leaves filters alone that hold the values
    {-a, 0, +a} already. So a file may hold ``a t`` in place of the latent
    weight: shifted by its mean, it would be ternary no more.
    """

    def filters(self, weight: Tensor) -> Tensor:
        ternary = _is_ternary(weight)
        # Their gradient would be NaN where all values of a filter are equal.
        ramp = torch.linspace(
            -1, 1, weight[0].numel(), device=weight.device,
            dtype=weight.dtype).view_as(weight[0])
        standard = self.standardize(torch.where(ternary, ramp, weight))
        return torch.where(ternary, weight, standard)

    def standardize(self, weight: Tensor) -> Tensor:
        """Return standardized filters, (C_out, C_in/groups, kH, kW)."""
        raise NotImplementedError


@register_ternary(ConvWS2d)
class TernConvWS2d(Standardized, ConvWS2d, nn.Conv2d):
    """Convolution with weight standardization (arXiv 1903.10520): filters of
    mean 0 and variance 1 become ternary."""
    plain_type = nn.Conv2d
    eps: float

    def standardize(self, weight: Tensor) -> Tensor:
        axes = (1, 2, 3)
        mean = weight.mean(axes, keepdim=True)
        return (weight - mean) / (weight.std(axes, keepdim=True) + self.eps)


@register_ternary(ConvAWS2d)
class TernConvAWS2d(Standardized, ConvAWS2d, nn.Conv2d):
    """Convolution with adaptive weight standardization (arXiv 2006.02334):
    filters of the pretrained mean and variance become ternary."""
    plain_type = nn.Conv2d

    def standardize(self, weight: Tensor) -> Tensor:
        return cast(Any, self)._get_weight(weight)


def _is_ternary(weight: Tensor) -> Tensor:
    """Which filters hold only {-a, 0, +a}, shape (C_out, 1, 1, 1)."""
    size = weight.detach().abs()
    largest = size.amax((1, 2, 3), keepdim=True)
    return ((size == 0) | (size == largest)).all(1,
                                                 True).all(2,
                                                           True).all(3, True)
