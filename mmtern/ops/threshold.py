"""Thresholds: which magnitude of a filter's weights counts as zero.

All functions take filters as rows, ``weight`` of shape (C_out, d) with
``d = C_in/groups * kH * kW``, and return one threshold per row, shape
(C_out, 1). A weight keeps its sign where ``|w| >= threshold`` and is zero
elsewhere.
"""
from typing import Tuple

import numpy as np
import torch
from torch import Tensor

from ..checks import check_sparsity

# Below this a row is taken for an all-zero filter: dividing by it would
# overflow float32.
TINY = torch.finfo(torch.float32).tiny

# TWN's, of the mean magnitude.
MEAN_FACTOR = 0.7


def largest_count(d: int, min_sparsity: float) -> int:
    """Most non-zero weights a filter of ``d`` weights may keep (at least
    1)."""
    # The guard keeps (1 - 0.8) * 10 = 1.9999999999999996 at 2.
    return max(1, int((1.0 - min_sparsity) * d + 1e-6))


def exact_threshold(weight: Tensor, min_sparsity: float = 0.0) -> Tensor:
    """Threshold of the ternary direction nearest to each row.

    Maximizes cos(w, t) over t in {-1, 0, +1}^d: with magnitudes sorted in
    descending order and S_k the sum of the first k, the best count is
    ``k* = argmax_k S_k / sqrt(k)`` (equivalently it minimizes
    ``min_a ||w - a t||^2``, the objective that TWN, arXiv 1605.04711 eq. 3,
    solves approximately). O(d log d).

    Args:
        weight (Tensor): Rows, shape (C_out, d), floating point.
        min_sparsity (float): Least share of zeros in a row; restricts the
            search to ``k <= (1 - min_sparsity) d``. Equal magnitudes at the
            cut are all kept: a threshold cannot tell them apart. Defaults
            to 0.0.

    Returns:
        Tensor: Shape (C_out, 1): midway between the last magnitude kept and
        the first one dropped.
    """
    check_sparsity('min_sparsity', min_sparsity)
    magnitude = weight.abs().sort(dim=1, descending=True).values
    d = magnitude.shape[1]
    kept = magnitude[:, :largest_count(d, min_sparsity)]
    # float64: with thousands of terms float32 sums blur neighbouring counts.
    counts = torch.arange(1, kept.shape[1] + 1, device=weight.device)
    score = kept.double().cumsum(1) / counts.double().sqrt()
    last = score.argmax(1, keepdim=True)
    low_kept = magnitude.gather(1, last)
    padded = torch.nn.functional.pad(magnitude, (0, 1))
    high_dropped = padded.gather(1, last + 1)
    return _between(high_dropped, low_kept)


def mean_threshold(weight: Tensor, factor: float = MEAN_FACTOR) -> Tensor:
    """TWN's rule of thumb, ``factor * mean|w|`` (arXiv 1605.04711, eq. 6).

    Per row here, per layer in the paper; its reference detector does it per
    row as well.
    """
    return factor * weight.abs().mean(dim=1, keepdim=True)


def max_threshold(weight: Tensor, factor: float = 0.05) -> Tensor:
    """TTQ's rule, ``factor * max|w|`` (arXiv 1612.01064, eq. 9), per row."""
    return factor * weight.abs().amax(dim=1, keepdim=True)


def sparsity_threshold(weight: Tensor, min_sparsity: float) -> Tensor:
    """Threshold that leaves ``min_sparsity`` zeros a row, midway between the
    last magnitude kept and the first one dropped; equal ones are all kept, as
    in :func:`exact_threshold`. O(d)."""
    check_sparsity('min_sparsity', min_sparsity)
    d = weight.shape[1]
    dropped = d - largest_count(d, min_sparsity)
    magnitude = weight.abs()
    if dropped == 0:
        return magnitude.amin(1, keepdim=True)
    return _between(*_around_cut(magnitude, dropped))


def _around_cut(magnitude: Tensor, dropped: int) -> Tuple[Tensor, Tensor]:
    """The largest of a row's ``dropped`` smallest values, and the next."""
    try:
        if magnitude.device.type != 'cpu':
            raise TypeError
        array = magnitude.detach().numpy()
    except (TypeError, RuntimeError):
        # Another device, or a stand-in of torch.func or torch.export.
        return tuple(
            magnitude.kthvalue(k, dim=1, keepdim=True).values
            for k in (dropped, dropped + 1))
    # Selects with vector instructions, in a seventh of kthvalue's time.
    parted = torch.from_numpy(np.partition(array, dropped, axis=1))
    return (parted[:, :dropped].amax(1, keepdim=True),
            parted[:, dropped:dropped + 1])


def _between(dropped: Tensor, kept: Tensor) -> Tensor:
    middle = (kept + dropped) / 2
    # Between adjacent floats the middle rounds to one of them.
    return torch.where(middle > dropped, middle, kept)
