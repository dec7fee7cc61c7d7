"""The hyperspherical regularizer, which turns filters towards their ternary
directions."""
from typing import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import fused
from .projection import (TINY, Projection, dense_filters, empty_as, float_rows,
                         row_blocks, rows_of, ternary_codes)


class _CosineDistance(torch.autograd.Function):
    """The sum of ``1 - cos(w_j, t_j)`` over the rows of all weights, with t
    held constant.

    The backward recomputes ``t`` from the threshold, so that nothing of the
    weights' size is kept for it.
    """

    @staticmethod
    def forward(ctx, projection: Projection, *weights: Tensor) -> Tensor:
        threshold, count, _, norm, _ = projection
        cosine = projection.cosine()
        ctx.save_for_backward(cosine, threshold, count, norm, *weights)
        return (1 - cosine).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        cosine, threshold, count, norm, *weights = ctx.saved_tensors
        # -(t / ||t|| - cos w / ||w||) / ||w||, a tangent of the sphere at w.
        # Rows too small for their inverse square count as all zero.
        inverse_norm = torch.where(norm > TINY**0.5, norm.reciprocal(), 0.0)
        towards = -grad_output * inverse_norm / count.clamp_min(1).sqrt_()
        along = grad_output * cosine * inverse_norm.square_()
        sizes = [x.shape[0] for x in weights]
        each = (x.split(sizes) for x in (threshold, towards, along))
        return None, *map(_turn, weights, *each)


def _turn(weight: Tensor, threshold: Tensor, towards: Tensor,
          along: Tensor) -> Tensor:
    """Return ``towards t + along w`` for each row, in the shape of
    ``weight``."""
    out = empty_as(weight)
    if weight.device.type in fused.DEVICES:
        filters = dense_filters(weight)
        kernels = fused.kernels_for(filters)
        if kernels is not None:
            kernels.turn_rows(filters, threshold, towards, along, out)
            return out
    rows, out_rows = float_rows(weight), rows_of(out)
    for block in row_blocks(rows):
        codes = ternary_codes(rows[block], threshold[block])
        torch.addcmul(
            codes.mul_(towards[block]),
            rows[block],
            along[block],
            out=out_rows[block])
    return out


def cosine_distance(weights: Sequence[Tensor],
                    projection: Projection) -> Tensor:
    """Return the regularizer ``R = sum_j [1 - cos(w_j, t_j)]`` over the
    filters of weights.

    Differentiable by the weights only, in one node of the graph. The gradient
    is orthogonal to each filter: it turns filters and never shrinks them. A
    pull towards ternary weights before quantizing is arXiv 2212.12649's idea;
    the cosine is our reading, after arXiv 2212.12653.

    Args:
        weights (Sequence[Tensor]): Latent weights, each of shape (C_out,
            C_in/groups, kH, kW) or (C_out, C_in).
        projection (Projection): Of all their filters, one weight's after the
            other.

    Returns:
        Tensor: Scalar, at least 0 and at most the number of filters.
    """
    return _CosineDistance.apply(projection, *weights)
