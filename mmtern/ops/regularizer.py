"""The hyperspherical regularizer: turn filters towards ternary
directions."""
from typing import Sequence

import torch
from torch import Tensor

from .projection import Projection, ternary_codes
from .rows import join_rows, row_blocks, split_rows
from .threshold import TINY


class _CosineDistance(torch.autograd.Function):
    """Sum of ``1 - cos(w_j, t_j)`` over rows, t held constant.

    The backward recomputes ``t`` from the threshold, so that nothing of the
    weights' size is kept for it.
    """

    @staticmethod
    def forward(ctx, projection: Projection, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(*projection, *weights)
        return (1 - projection.cosine()).sum()

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        fields = len(Projection._fields)
        projection = Projection(*ctx.saved_tensors[:fields])
        weights = ctx.saved_tensors[fields:]
        count, norm = projection.count, projection.norm
        # -(t / ||t|| - cos w / ||w||) / ||w||, a tangent of the sphere at w.
        # Rows too small for their inverse square count as all zero.
        inverse_norm = torch.where(norm > TINY**0.5, 1 / norm, 0.0)
        towards = -grad_output * inverse_norm / count.clamp_min(1).sqrt()
        along = grad_output * projection.cosine() * inverse_norm.square()
        with torch.no_grad():
            rows = join_rows(weights)
            grad = torch.empty_like(rows, dtype=weights[0].dtype)
            for block in row_blocks(rows):
                codes = ternary_codes(rows[block], projection.threshold[block])
                torch.addcmul(
                    codes.mul_(towards[block]),
                    rows[block],
                    along[block],
                    out=grad[block])
        return (None, *split_rows(grad, weights))


def cosine_distance(weight: Tensor, projection: Projection) -> Tensor:
    """Regularizer of one layer, ``R = sum_j [1 - cos(w_j, t_j)]``.

    Differentiable by ``weight`` only. The gradient is orthogonal to each
    filter: it turns filters and never shrinks them. A pull towards ternary
    weights before quantizing is arXiv 2212.12649's idea; the cosine is our
    reading, after arXiv 2212.12653.

    Args:
        weight (Tensor): Latent weight, shape (C_out, C_in/groups, kH, kW) or
            (C_out, C_in).
        projection (Projection): Its projection.

    Returns:
        Tensor: Scalar in [0, C_out].
    """
    return cosine_distance_all([weight], projection)


def cosine_distance_all(weights: Sequence[Tensor],
                        projection: Projection) -> Tensor:
    """Sum of :func:`cosine_distance` over weights of one dtype whose filters
    are of one length; ``projection`` is that of all filters, in order."""
    return _CosineDistance.apply(projection, *weights)
