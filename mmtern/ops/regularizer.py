"""The hyperspherical regularizer, which turns filters towards their ternary
directions."""
from typing import Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import fused
from .projection import (TINY, Projection, empty_as, float_rows, row_blocks,
                         rows_of, ternary_codes)


class _CosineDistance(torch.autograd.Function):
    """The sum of ``1 - cos(w_j, t_j)`` over rows, with t held constant.

    The backward recomputes ``t`` from the threshold, so that nothing of the
    weight's size is kept for it.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, cosine: Tensor, threshold: Tensor,
                count: Tensor, norm: Tensor) -> Tensor:
        ctx.save_for_backward(weight, cosine, threshold, count, norm)
        return (1 - cosine).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        weight, cosine, threshold, count, norm = ctx.saved_tensors
        grad = empty_as(weight)
        grad_rows, rows = rows_of(grad), float_rows(weight)
        kernels = None
        if weight.device.type in fused.DEVICES:
            kernels = fused.kernels_for(rows, grad_rows)
        if kernels is not None:
            kernels.turn_rows(rows, cosine, threshold, count, norm,
                              grad_output, grad_rows)
            return grad, None, None, None, None
        # -(t / ||t|| - cos w / ||w||) / ||w||, a tangent of the sphere at w.
        # Rows too small for their inverse square count as all zero.
        inverse_norm = torch.where(norm > TINY**0.5, norm.reciprocal(), 0.0)
        towards = -grad_output * inverse_norm / count.clamp_min(1).sqrt_()
        along = grad_output * cosine * inverse_norm.square_()
        for block in row_blocks(rows):
            codes = ternary_codes(rows[block], threshold[block])
            torch.addcmul(
                codes.mul_(towards[block]),
                rows[block],
                along[block],
                out=grad_rows[block])
        return grad, None, None, None, None


def cosine_distance(weight: Tensor,
                    projection: Projection,
                    cosine: Optional[Tensor] = None) -> Tensor:
    """Return the regularizer of one layer, ``R = sum_j [1 - cos(w_j, t_j)]``.

    Differentiable by ``weight`` only. The gradient is orthogonal to each
    filter: it turns filters and never shrinks them. A pull towards ternary
    weights before quantizing is arXiv 2212.12649's idea; the cosine is our
    reading, after arXiv 2212.12653.

    Args:
        weight (Tensor): Latent weight, shape (C_out, C_in/groups, kH, kW) or
            (C_out, C_in).
        projection (Projection): Its projection.
        cosine (Tensor, optional): ``projection.cosine()``, where it was
            computed for several layers together.

    Returns:
        Tensor: Scalar in [0, C_out].
    """
    if cosine is None:
        cosine = projection.cosine()
    threshold, count, _, norm, _ = projection
    return _CosineDistance.apply(weight, cosine, threshold, count, norm)
