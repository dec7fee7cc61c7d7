"""Straight-through estimators: ternary values forward, a re-scaled gradient
backward."""
from typing import Callable, Optional, Sequence, Tuple

import torch
from torch import Tensor

Rescale = Callable[[Tensor], Tensor]
# Of several weights: None for one that was not used.
Gradients = Sequence[Optional[Tensor]]
RescaleAll = Callable[[Gradients], Gradients]


class _StraightThrough(torch.autograd.Function):
    """Hands out ``values`` for weights; backward re-scales the gradients.

    The factor is computed when the gradients arrive instead of being saved,
    and nothing goes through ``save_for_backward``: autograd frees what it
    saved after one backward pass, but a ternary weight is shared by all the
    passes of one optimizer step (gradient accumulation).
    """

    @staticmethod
    def forward(ctx, rescale: RescaleAll, values: Sequence[Tensor], *weights:
                Tensor) -> Tuple[Tensor, ...]:
        ctx.rescale = rescale
        # An unused weight gets no gradient, as in the float model; zeros
        # would let an optimizer's momentum move it.
        ctx.set_materialize_grads(False)
        return tuple(x.detach() for x in values)

    @staticmethod
    def backward(ctx, *grads: Optional[Tensor]):
        return (None, None, *ctx.rescale(grads))


def straight_through_all(weights: Sequence[Tensor], values: Sequence[Tensor],
                         rescale: RescaleAll) -> Tuple[Tensor, ...]:
    """:func:`straight_through` of several weights at once, whose gradients
    are re-scaled together when the last of them has come.

    Args:
        weights (Sequence[Tensor]): Latent weights.
        values (Sequence[Tensor]): What the layers compute with.
        rescale (Callable): From all gradients to all; a weight that was not
            used has None.
    """
    return _StraightThrough.apply(rescale, values, *weights)


def straight_through(weight: Tensor, values: Tensor,
                     rescale: Rescale) -> Tensor:
    """Return ``values`` such that ``dL/dweight = rescale(dL/dvalues)``.

    Args:
        weight (Tensor): Latent weight that receives the gradient.
        values (Tensor): Shape of ``weight``; what the layer computes with.
        rescale (Callable): From gradient to gradient, ``weight``'s shape
            both; called in each backward pass.
    """
    return straight_through_all([weight], [values],
                                lambda grads: [rescale(grads[0])])[0]


class _LearnedScale(torch.autograd.Function):
    """``a+`` on the positive codes, ``-a-`` on the negative ones (TTQ)."""

    @staticmethod
    def forward(ctx, weight: Tensor, scales: Tensor, codes: Tensor) -> Tensor:
        # Codes are constants of the step, hence not saved for backward: see
        # _StraightThrough.
        ctx.codes, ctx.scales, ctx.shape = codes, scales.detach(), weight.shape
        positive, negative = scales[0, :, None], scales[-1, :, None]
        values = torch.where(codes > 0, positive, negative) * codes
        return values.view_as(weight)

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        codes, scales = ctx.codes, ctx.scales
        grad = grad_output.flatten(1)
        towards = grad * codes
        if len(scales) == 1:
            grad_scales = towards.sum(1)[None]
        else:
            up = (towards * (codes > 0)).sum(1)
            grad_scales = torch.stack([up, towards.sum(1) - up])
        on_weight = torch.where(codes > 0, scales[0, :, None], scales[-1, :,
                                                                      None])
        on_weight = torch.where(codes == 0, 1.0, on_weight)
        return (grad * on_weight).view(ctx.shape), grad_scales, None


def learned_scale(weight: Tensor, scales: Tensor, codes: Tensor) -> Tensor:
    """Ternary weight with trained scales, Trained Ternary Quantization
    (arXiv 1612.01064).

    Forward ``a+ t`` where t > 0 and ``a- t`` where t < 0. Backward by its
    eq. 7 and 8: each scale receives the sum of the gradients it multiplies
    (times its code), the latent weight the gradient times its scale (times 1
    where the code is zero). Per output channel here, per layer in the paper.

    Args:
        weight (Tensor): Latent weight, (C_out, C_in/groups, kH, kW) or
            (C_out, C_in).
        scales (Tensor): Shape (2, C_out), or (1, C_out) for one scale on
            both signs.
        codes (Tensor): Values in {-1, 0, +1}, shape (C_out, d).
    """
    return _LearnedScale.apply(weight, scales, codes)
