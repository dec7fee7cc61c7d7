"""The factor of the temperature Sigmoid, put to work on one latent weight."""
from typing import Callable

import torch
from torch import Tensor

from ..ops import (Projection, Rescale, empty_as, float_rows, in_layout_of,
                   rescale_gradient_, rescale_update_, rows_of,
                   soft_ternary_slope)
from .settings import TernarySettings


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

    @torch.no_grad()
    def rescale() -> None:
        rescale_update_(
            rows_of(weight), rows_of(before), projection.threshold,
            temperature, settings.floor, settings.normalize)
        weight.copy_(before)

    return rescale
