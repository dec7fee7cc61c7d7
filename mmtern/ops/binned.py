"""The nearest ternary direction without a sort."""
import torch
from torch import Tensor

from ..checks import check_sparsity
from .rows import row_blocks
from .threshold import largest_count

# Bits of the mantissa that tell bins apart: 8 bins an octave of magnitude.
MANTISSA_BITS = 3
# Octaves below a row's largest magnitude; what is smaller shares a bin. Its
# weights are kept only by rows nearly all of whose weights are that small.
OCTAVES = 12


def binned_threshold(weight: Tensor, min_sparsity: float = 0.0) -> Tensor:
    """:func:`exact_threshold` up to the width of a bin, in O(d).

    ``S_k / sqrt(k)`` is looked at where magnitudes fall into the next of bins
    that are even on a logarithmic scale, so heavy tails are resolved as well
    as Gaussian rows, and no local optimum holds it. For rows of 64 weights
    and more the cosine was within 1e-3 of the best one in all of some 1e5
    rows tried (Gaussian, Laplace, Student-t with 2 degrees of freedom), at a
    tenth of the sort's time. Ours.

    Args:
        weight (Tensor): Rows, shape (C_out, d), float32.
        min_sparsity (float): Least share of zeros in a row; met up to the
            weights of one bin.

    Returns:
        Tensor: Shape (C_out, 1).
    """
    check_sparsity('min_sparsity', min_sparsity)
    threshold = weight.new_empty(len(weight), 1)
    for block in row_blocks(weight):
        threshold[block] = _binned_threshold(weight[block], min_sparsity)
    return threshold


def _binned_threshold(weight: Tensor, min_sparsity: float) -> Tensor:
    rows, d = weight.shape
    magnitude = weight.abs()
    largest = magnitude.amax(1, keepdim=True)
    bins = OCTAVES << MANTISSA_BITS
    # The leading bits of a float are a logarithm: sign, exponent, mantissa.
    shift = 23 - MANTISSA_BITS
    index = (largest.view(torch.int32) >> shift) - (
        magnitude.view(torch.int32) >> shift)
    index = index.clamp_(0, bins - 1).long()
    sums = weight.new_zeros(rows, bins).scatter_add_(1, index, magnitude)
    counts = weight.new_zeros(rows,
                              bins).scatter_add_(1, index,
                                                 torch.ones_like(magnitude))
    limit = largest_count(d, min_sparsity)
    # The bin that passes the limit is kept in part, at its own mean.
    part = (limit - counts.cumsum(1) + counts).clamp_(min=0).minimum(counts)
    total = (sums * (part / counts.clamp_min(1))).cumsum(1)
    count = part.cumsum(1)
    score = total / count.clamp_min(1).sqrt() * (part > 0)
    best = score.argmax(1, keepdim=True)
    half_mean = total.gather(1, best) / count.gather(1, best).clamp_min(1) / 2
    if min_sparsity == 0:
        return half_mean
    # Where the limit binds, the cut lies inside the last bin kept.
    share = part.gather(1, best) / counts.gather(1, best).clamp_min(1)
    leading = (largest.view(torch.int32) >> shift) - best.int()
    low, high = ((leading + i << shift).view(torch.float32) for i in (0, 1))
    return torch.maximum(half_mean, high - share * (high - low))
