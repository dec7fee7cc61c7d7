"""The hyperspherical regularizer, which turns filters towards their ternary
directions."""
import torch
from torch import Tensor

from .projection import (TINY, Projection, empty_as, float_rows, row_blocks,
                         rows_of, ternary_codes)


class _CosineDistance(torch.autograd.Function):
    """The sum of ``1 - cos(w_j, t_j)`` over rows, with t held constant.

    The backward recomputes ``t`` from the threshold, so that nothing of the
    weight's size is kept for it.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, *fields: Tensor) -> Tensor:
        ctx.save_for_backward(weight, *fields)
        return (1 - Projection(*fields).cosine()).sum()

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        weight, *fields = ctx.saved_tensors
        projection = Projection(*fields)
        count, norm = projection.count, projection.norm
        # -(t / ||t|| - cos w / ||w||) / ||w||, a tangent of the sphere at w.
        # Rows too small for their inverse square count as all zero.
        inverse_norm = torch.where(norm > TINY**0.5, 1 / norm, 0.0)
        towards = -grad_output * inverse_norm / count.clamp_min(1).sqrt()
        along = grad_output * projection.cosine() * inverse_norm.square()
        grad = empty_as(weight)
        grad_rows, rows = rows_of(grad), float_rows(weight)
        with torch.no_grad():
            for block in row_blocks(rows):
                codes = ternary_codes(rows[block], projection.threshold[block])
                pull = torch.addcmul(
                    codes.mul_(towards[block]), rows[block], along[block])
                grad_rows[block] = pull
        return (grad, *[None] * len(fields))


def cosine_distance(weight: Tensor, projection: Projection) -> Tensor:
    """Return the regularizer of one layer, ``R = sum_j [1 - cos(w_j, t_j)]``.

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
    return _CosineDistance.apply(weight, *projection)
