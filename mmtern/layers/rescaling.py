"""What one latent weight's gradients and updates are multiplied by."""
from typing import Callable, Optional

import torch
from torch import Tensor

from ..ops import (Projection, Rescale, empty_as, float_rows, in_layout_of,
                   rescale_gradient_, rescale_update_, rows_of,
                   soft_ternary_slope)
from .settings import TernarySettings

# Of a step in a filter of small weights, so that one of zeros can grow.
LEAST_GAIN = 0.01


def gradient_rescaler(settings: TernarySettings, weight: Tensor,
                      projection: Projection, temperature: float, soft: bool,
                      overwrite: bool) -> Rescale:
    """From the gradient at a ternary weight to that at its latent weight.

    Args:
        weight (Tensor): Latent weight, (C_out, ...), out of the graph.
        projection (Projection): Of ``weight``.
        soft (bool): Whether the forward was the temperature Sigmoid, whose
            derivative is then taken.
        overwrite (bool): Whether the gradient may be overwritten.
    """

    def rescale(grad: Tensor) -> Tensor:
        if settings.rescales_updates:
            return grad
        grad = in_layout_of(weight, grad if overwrite else grad.clone())
        rows, grad_rows = float_rows(weight), rows_of(grad)
        if soft:
            grad_rows.mul_(
                soft_ternary_slope(rows, projection.threshold,
                                   projection.scale(settings.scale),
                                   temperature))
        else:
            rescale_gradient_(grad_rows, rows, projection.threshold,
                              temperature, settings.floor, settings.normalize)
        return grad

    return rescale


@torch.no_grad()
def update_rescaler(settings: TernarySettings, weight: Tensor,
                    projection: Projection,
                    temperature: float) -> Callable[[], None]:
    """Keep a latent weight; the result re-scales what was done to it since.

    Args:
        weight (Tensor): Latent weight, (C_out, ...), before the optimizer's
            step.
        projection (Projection): Of ``weight``.
    """
    before = empty_as(weight, torch.float32).copy_(weight)
    gain: Optional[Tensor] = None
    if settings.reference_rms:
        gain = projection.rms(weight) / settings.reference_rms
        gain = gain.clamp_min(LEAST_GAIN)

    @torch.no_grad()
    def rescale() -> None:
        rescale_update_(
            rows_of(weight), rows_of(before), projection.threshold,
            temperature, settings.floor, settings.normalize, gain)
        weight.copy_(before)

    return rescale
