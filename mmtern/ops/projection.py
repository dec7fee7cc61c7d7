"""Projection of filters onto ternary directions."""
from typing import Callable, NamedTuple, Optional, Union

import torch
from torch import Tensor

from .fused import kernels_for
from .rows import row_blocks
from .threshold import MEAN_FACTOR, TINY, mean_threshold

SCALES = ('norm', 'lsq')

# From rows, shape (C_out, d), to their thresholds, shape (C_out, 1).
ThresholdRule = Callable[[Tensor], Tensor]


def ternary_codes(weight: Tensor, threshold: Tensor) -> Tensor:
    """Values in {-1, 0, +1}: the sign of ``weight`` where its magnitude
    reaches ``threshold``.

    Args:
        weight (Tensor): Rows, shape (C_out, d).
        threshold (Tensor): Shape (C_out, 1).

    Returns:
        Tensor: Shape (C_out, d), dtype of ``weight``.
    """
    # Two vectorized passes; comparing and masking takes four times as long on
    # a CPU.
    steps = torch.div(weight, threshold.clamp_min(TINY), rounding_mode='trunc')
    return steps.sign_()


class Projection(NamedTuple):
    """What a ternary direction ``t`` shares with its row ``w``; every field
    has the shape (C_out, 1).

    Attributes:
        threshold: Magnitude from which a weight is kept.
        count: Number of weights kept, ``||t||^2``, as a float.
        inner: ``<w, t>``, the sum of the kept magnitudes.
        norm: ``||w||``.
    """
    threshold: Tensor
    count: Tensor
    inner: Tensor
    norm: Tensor

    def cosine(self) -> Tensor:
        """``cos(w, t)``, shape (C_out, 1); 1 for an all-zero row, which has
        nothing left to turn."""
        size = self.norm * self.count.sqrt()
        cosine = self.inner / size.clamp_min(TINY)
        # Compared so that a filter with NaN in it keeps its NaN.
        return torch.where(size <= TINY, 1.0, cosine.clamp_max(1.0))

    def relative(self, weight: Tensor) -> Tensor:
        """Magnitudes of ``weight``'s rows over their threshold, (C_out, d): 1
        is the border between zero and non-zero."""
        return weight.abs().div_(self.threshold.clamp_min(TINY))

    def scale(self, kind: str = 'norm') -> Tensor:
        """Scale ``a`` of the ternary filter ``a t``, shape (C_out, 1).

        Args:
            kind (str): 'norm' keeps the filter on its hypersphere,
                ``||a t|| = ||w||`` (ours, after arXiv 2212.12653); 'lsq'
                minimizes ``||w - a t||`` (arXiv 1605.04711, eq. 5), which
                shrinks the norm by ``cos(w, t)``.
        """
        count = self.count.clamp_min(1.0)
        if kind == 'lsq':
            return self.inner / count
        if kind == 'norm':
            # 0 for an all-zero row. A NaN norm stays one: codes alone would
            # take a filter with NaN in it for a zero filter.
            return self.norm / count.sqrt()
        raise ValueError(f'scale must be one of {SCALES}, but got {kind!r}')


def project(weight: Tensor,
            threshold: Union[Tensor, ThresholdRule],
            codes: Optional[Tensor] = None) -> Projection:
    """Measure the ternary direction that ``threshold`` cuts out of each row.

    Args:
        weight (Tensor): Rows, shape (C_out, d), float32.
        threshold (Tensor or Callable): Shape (C_out, 1), or a function from
            rows to thresholds, such as :func:`mean_threshold`; it is called
            block by block, so that the weights are read once.
        codes (Tensor, optional): Shape of ``weight``, int8; receives the
            :func:`ternary_codes` of the two, which are made on the way.
    """
    kernels = kernels_for(weight, codes)
    if kernels is not None:
        of_mean = threshold is mean_threshold
        if callable(threshold) and not of_mean:
            threshold = threshold(weight)
        return Projection(*kernels.project_rows(
            weight, None if of_mean else threshold, MEAN_FACTOR, codes))
    count, inner, norm = (weight.new_empty(len(weight), 1) for _ in range(3))
    rule = threshold if callable(threshold) else None
    if rule is not None:
        threshold = torch.empty_like(norm)
    for block in row_blocks(weight):
        rows = weight[block]
        if rule is not None:
            threshold[block] = rule(rows)
        signs = ternary_codes(rows, threshold[block])
        # ||t||^2; the vectorized norm is faster than counting.
        count[block] = torch.linalg.vector_norm(signs, dim=1, keepdim=True)
        norm[block] = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        if codes is not None:
            codes[block] = signs
        inner[block] = signs.mul_(rows).sum(1, keepdim=True)
    return Projection(threshold, count.square_().round_(), inner, norm)


def keep_ternary_scale(weight: Tensor, scale: Tensor) -> Tensor:
    """Replace the scale of rows that are ternary already by their own.

    Both kinds of scale equal it but for rounding; taken exactly, it makes the
    projection idempotent to the last bit, so that ternary values can be
    stored in place of latent weights.

    Args:
        weight (Tensor): Rows, shape (C_out, d).
        scale (Tensor): Shape (C_out, 1).

    Returns:
        Tensor: Shape (C_out, 1): ``max|w|`` for rows in {-a, 0, +a}^d, else
        ``scale``.
    """
    magnitude = weight.abs()
    largest = magnitude.amax(1, keepdim=True)
    ternary = (magnitude == largest).logical_or_(magnitude == 0)
    return torch.where(ternary.all(1, keepdim=True), largest, scale)
