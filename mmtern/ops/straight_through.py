"""Straight-through estimators: ternary values in the forward pass, and in the
backward pass a gradient re-scaled by a factor, the derivative of a temperature
Sigmoid."""
from typing import Callable, Optional

import torch
from torch import Tensor

from . import fused
from .projection import (TINY, dense_filters, empty_as, float_rows,
                         in_layout_of, row_blocks, rows_of)


class _StraightThrough(torch.autograd.Function):
    """Returns ``values`` for a weight; backward re-scales the gradient.

    The factor is computed when the gradient arrives instead of being saved,
    and nothing goes through ``save_for_backward``: autograd frees what it
    saved after one backward pass, but several may go through one node.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, values: Tensor,
                rescale: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.rescale = rescale
        return values.detach()

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        return ctx.rescale(grad_output), None, None


def straight_through(weight: Tensor, values: Tensor,
                     rescale: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``values`` such that ``dL/dweight = rescale(dL/dvalues)``.

    Args:
        weight (Tensor): Latent weight that receives the gradient.
        values (Tensor): Shape of ``weight``; what the layer computes with.
        rescale (Callable): From gradient to gradient, ``weight``'s shape
            both; called in each backward pass.
    """
    return _StraightThrough.apply(weight, values, rescale)


def sigmoid_bump(weight: Tensor, threshold: Tensor,
                 temperature: float) -> Tensor:
    """Return ``h = 4 sigmoid(z) (1 - sigmoid(z))`` with ``z = T (|w| /
    threshold - 1)``: 1 at the threshold, decreasing on both sides over a width
    of ``threshold / T``."""
    return _quarter_bump(weight, threshold, temperature).mul_(4)


def _quarter_bump(weight: Tensor, threshold: Tensor,
                  temperature: float) -> Tensor:
    """Return ``h / 4 = s - s^2`` with a sigmoid ``s``, which takes a quarter
    of the time of ``tanh``, whose square would need fewer steps."""
    # All-zero rows have threshold 0: 0 * inf, or 0 / 0 where the temperature
    # is denormal, would be NaN.
    slope = temperature / threshold.clamp_min(TINY)
    slope = slope.clamp_max(torch.finfo(weight.dtype).max)
    s = weight.abs().mul_(slope).sub_(temperature).sigmoid_()
    return torch.addcmul(s, s, s, value=-1, out=s)


def _is_one(temperature: float, floor: float) -> bool:
    """Return whether the factor is 1 everywhere, as in the plain
    straight-through estimator."""
    return temperature == 0 or floor == 1


def rescale_factor(weight: Tensor,
                   threshold: Tensor,
                   temperature: float,
                   floor: float = 0.2,
                   normalize: bool = True) -> Optional[Tensor]:
    """Return the factor ``g`` by which the gradient at a ternary weight is
    multiplied on its way to the latent weight: ``dL/dw = g * dL/dw_hat``.

    ``g = floor + (1 - floor) h`` with the bump ``h`` of
    :func:`sigmoid_bump`. That is, up to its peak, the derivative of one step
    of the soft ternary :func:`soft_ternary`; weights about to change their
    ternary value move, settled ones hardly do. The idea, a factor that
    simulates the derivative of the temperature Sigmoid, is arXiv
    2212.12649's; ``floor`` and ``normalize`` are ours.

    Args:
        weight (Tensor): Latent rows, shape (C_out, d), float32.
        threshold (Tensor): Shape (C_out, 1).
        temperature (float): ``T >= 0``, dimensionless; 0 gives ``g = 1``,
            the plain straight-through estimator.
        floor (float): Least value of ``g`` before normalizing, in [0, 1].
        normalize (bool): Divide by the row's mean, so that annealing ``T``
            does not shrink the step.

    Returns:
        Tensor or None: Shape (C_out, d); None stands for 1 everywhere.
    """
    if _is_one(temperature, floor):
        return None
    factor = _quarter_bump(weight, threshold, temperature)
    factor.add_(floor / (4 * (1 - floor)))
    if normalize:
        mean = factor.mean(1, keepdim=True)
        return factor.mul_(1 / mean.clamp_min(TINY))
    return factor.mul_(4 * (1 - floor))


def rescale_gradient(grad: Tensor,
                     weight: Tensor,
                     threshold: Tensor,
                     temperature: float,
                     floor: float = 0.2,
                     normalize: bool = True) -> Tensor:
    """Return ``grad`` times the factor of :func:`rescale_factor`, which is
    never held whole.

    Args:
        grad (Tensor): Gradient at the ternary weight, shape of ``weight``; it
            is left as it is, since others may hold it.
        weight (Tensor): Latent weight, (C_out, C_in/groups, kH, kW) or (C_out,
            d), any float dtype; the factor is computed in float32.
        threshold, temperature, floor, normalize: Those of
            :func:`rescale_factor`.

    Returns:
        Tensor: Shape, memory format and dtype of ``weight``; ``grad`` in this
        dtype, itself where it has it, where the factor is 1 everywhere.
    """
    if _is_one(temperature, floor):
        return grad.to(weight.dtype)
    out, grad = empty_as(weight), in_layout_of(weight, grad)
    if weight.device.type in fused.DEVICES:
        filters = dense_filters(weight)
        kernels = fused.kernels_for(filters)
        if kernels is not None:
            kernels.rescale_rows(grad, filters, threshold.contiguous(),
                                 temperature, floor, normalize, out)
            return out
    rows, grad_rows, out_rows = float_rows(weight), rows_of(grad), rows_of(out)
    for block in row_blocks(rows):
        factor = rescale_factor(rows[block], threshold[block], temperature,
                                floor, normalize)
        if factor is not None:
            torch.mul(grad_rows[block], factor, out=out_rows[block])
    return out


def soft_ternary(weight: Tensor, threshold: Tensor, scale: Tensor,
                 temperature: float) -> Tensor:
    """Return ``a [sigmoid(T (w/threshold - 1)) - sigmoid(T (-w/threshold -
    1))]``, the temperature-Sigmoid forward of Quantization Networks (arXiv
    1911.09464, eq. 3) with thresholds and scale in closed form per row, where
    the paper learns one pair per layer.

    Shapes as in :func:`rescale_factor`; ``scale`` is (C_out, 1). As
    ``temperature`` grows it tends to the ternary ``a t``.
    """
    u = weight / threshold.clamp_min(TINY)
    return scale * (
        torch.sigmoid(temperature * (u - 1)) - torch.sigmoid(temperature *
                                                             (-u - 1)))


def soft_ternary_slope(weight: Tensor, threshold: Tensor, scale: Tensor,
                       temperature: float) -> Tensor:
    """Return the derivative of :func:`soft_ternary` by ``weight`` with
    threshold and scale held constant: a bump at each of the two thresholds."""
    threshold = threshold.clamp_min(TINY)
    bumps = (
        sigmoid_bump(weight, threshold, temperature) +
        sigmoid_bump(weight.abs().neg_().sub_(2 * threshold).abs_(), threshold,
                     temperature))
    return bumps.mul_(scale * temperature / (4 * threshold))


class _LearnedScale(torch.autograd.Function):
    """Multiplies positive codes by ``a+`` and negative codes by ``a-``
    (TTQ)."""

    @staticmethod
    def forward(ctx, weight: Tensor, scales: Tensor, codes: Tensor) -> Tensor:
        # Codes are constants of the step, hence not saved for backward: see
        # _StraightThrough.
        ctx.codes, ctx.scales, ctx.shape = codes, scales.detach(), weight.shape
        positive, negative = scales[0, :, None], scales[1, :, None]
        values = torch.where(codes > 0, positive, negative) * codes
        return values.view_as(weight)

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        codes, scales = ctx.codes, ctx.scales
        grad = grad_output.flatten(1)
        towards = grad * codes
        up = (towards * (codes > 0)).sum(1)
        grad_scales = torch.stack([up, towards.sum(1) - up])
        on_weight = torch.where(codes > 0, scales[0, :, None], scales[1, :,
                                                                      None])
        on_weight = torch.where(codes == 0, 1.0, on_weight)
        return (grad * on_weight).view(ctx.shape), grad_scales, None


def learned_scale(weight: Tensor, scales: Tensor, codes: Tensor) -> Tensor:
    """Return the ternary weight with trained scales, as in Trained Ternary
    Quantization (arXiv 1612.01064).

    Forward ``a+ t`` where t > 0 and ``a- t`` where t < 0. Backward by its
    eq. 7 and 8: each scale receives the sum of the gradients it multiplies
    (times its code), the latent weight the gradient times its scale (times 1
    where the code is zero). Per output channel here, per layer in the paper.

    Args:
        weight (Tensor): Latent weight, (C_out, C_in/groups, kH, kW) or
            (C_out, C_in).
        scales (Tensor): Shape (2, C_out).
        codes (Tensor): Values in {-1, 0, +1}, shape (C_out, d).
    """
    return _LearnedScale.apply(weight, scales, codes)
