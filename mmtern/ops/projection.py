"""Projection of filters onto ternary directions: the threshold of a filter,
its ternary codes, and the scale and cosine of both.

The functions of the projection take filters as rows, ``weight`` of shape
(C_out, d) with ``d = C_in/groups * kH * kW``; :func:`rows_of` and those below
it turn weights into rows and back. Thresholds have the shape (C_out, 1): a
weight keeps its sign where ``|w| >= threshold`` and is zero elsewhere.
"""
from typing import Callable, Iterator, NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..checks import check_sparsity
from . import fused

SCALES = ('norm', 'lsq')

# From rows, shape (C_out, d), to their thresholds, shape (C_out, 1).
ThresholdRule = Callable[[Tensor], Tensor]

# Below this a row is taken for an all-zero filter: dividing by it would
# overflow float32.
TINY = torch.finfo(torch.float32).tiny

# TWN's, of the mean magnitude.
MEAN_FACTOR = 0.7

# Weights a thread works on at once. The three float tensors that a function
# computes from them fit the second-level cache or nearly so, which spares it
# ten passes through main memory and fresh memory from the system. Smaller
# blocks spend more time on calls than they save.
BLOCK = 1 << 17


def largest_count(d: int, min_sparsity: float) -> int:
    """Return the largest number of non-zero weights that a filter of ``d``
    weights may have (at least 1)."""
    # The guard keeps (1 - 0.8) * 10 = 1.9999999999999996 at 2.
    return max(1, int((1.0 - min_sparsity) * d + 1e-6))


def exact_threshold(weight: Tensor, min_sparsity: float = 0.0) -> Tensor:
    """Return the threshold of the ternary direction nearest to each row.

    Maximizes cos(w, t) over t in {-1, 0, +1}^d: with magnitudes sorted in
    descending order and S_k the sum of the first k, the best count is
    ``k* = argmax_k S_k / sqrt(k)`` (equivalently it minimizes
    ``min_a ||w - a t||^2``, the objective that TWN, arXiv 1605.04711 eq. 3,
    solves approximately). O(d log d).

    Args:
        weight (Tensor): Rows, shape (C_out, d), floating point.
        min_sparsity (float): Least share of zeros in a row; restricts the
            search to ``k <= (1 - min_sparsity) d``. Equal magnitudes at the
            cut all stay non-zero, because a threshold cannot tell them apart.
            Defaults to 0.0.

    Returns:
        Tensor: Shape (C_out, 1): midway between the smallest magnitude above
        the cut and the largest one below.
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
    """Return TWN's approximate threshold, ``factor * mean|w|`` (arXiv
    1605.04711, eq. 6).

    The mean is that of a row here and that of a layer in the paper, whose
    reference detector takes rows as well.
    """
    return factor * weight.abs().mean(dim=1, keepdim=True)


def max_threshold(weight: Tensor, factor: float = 0.05) -> Tensor:
    """Return TTQ's threshold, ``factor * max|w|`` of each row (arXiv
    1612.01064, eq. 9)."""
    return factor * weight.abs().amax(dim=1, keepdim=True)


def sparsity_threshold(weight: Tensor, min_sparsity: float) -> Tensor:
    """Return the threshold that leaves a share ``min_sparsity`` of zeros in
    each row, midway between the two magnitudes at the cut.

    Equal magnitudes at the cut all stay non-zero, as in
    :func:`exact_threshold`. O(d).
    """
    check_sparsity('min_sparsity', min_sparsity)
    d = weight.shape[1]
    dropped = d - largest_count(d, min_sparsity)
    magnitude = weight.abs()
    if dropped == 0:
        return magnitude.amin(1, keepdim=True)
    return _between(*_around_cut(magnitude, dropped))


def _around_cut(magnitude: Tensor, dropped: int) -> Tuple[Tensor, Tensor]:
    """Return the largest of a row's ``dropped`` smallest values, and the next
    larger value."""
    try:
        if magnitude.device.type != 'cpu':
            raise TypeError
        array = magnitude.detach().numpy()
    except (TypeError, RuntimeError):
        # Another device, or a stand-in of torch.func or torch.export.
        largest, following = (
            magnitude.kthvalue(k, dim=1, keepdim=True).values
            for k in (dropped, dropped + 1))
        return largest, following
    # Selects with vector instructions, in a seventh of kthvalue's time.
    parted = torch.from_numpy(np.partition(array, dropped, axis=1))
    return (parted[:, :dropped].amax(1, keepdim=True),
            parted[:, dropped:dropped + 1])


def _between(dropped: Tensor, kept: Tensor) -> Tensor:
    middle = (kept + dropped) / 2
    # Between adjacent floats the middle rounds to one of them.
    return torch.where(middle > dropped, middle, kept)


def ternary_codes(weight: Tensor, threshold: Tensor) -> Tensor:
    """Return the sign of ``weight`` where its magnitude reaches ``threshold``,
    and zero elsewhere.

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
    """A ternary direction ``t`` measured against its row ``w``; every field
    has the shape (C_out, 1).

    Attributes:
        threshold: Magnitude from which on a weight is not zero.
        count: Number of non-zero weights, ``||t||^2``, as a float.
        inner: ``<w, t>``, the sum of their magnitudes.
        norm: ``||w||``.
        norm_scale: ``||w|| / ||t||``; 0 for an all-zero row.
    """
    threshold: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count
    inner: Tensor
    norm: Tensor
    norm_scale: Tensor

    def cosine(self) -> Tensor:
        """Return ``cos(w, t)``, shape (C_out, 1); 1 for an all-zero row, which
        has no direction."""
        size = self.norm * self.count.sqrt()
        cosine = self.inner / size.clamp_min(TINY)
        # Compared so that a filter with NaN in it keeps its NaN.
        return torch.where(size <= TINY, 1.0, cosine.clamp_max(1.0))

    def relative(self, weight: Tensor) -> Tensor:
        """Return the magnitudes of ``weight``'s rows over their threshold,
        (C_out, d): 1 is the border between zero and non-zero."""
        return weight.abs().div_(self.threshold.clamp_min(TINY))

    def scale(self, kind: str = 'norm') -> Tensor:
        """Return the scale ``a`` of the ternary filter ``a t``, shape
        (C_out, 1).

        Args:
            kind (str): 'norm' keeps the filter on its hypersphere,
                ``||a t|| = ||w||`` (ours, after arXiv 2212.12653); 'lsq'
                minimizes ``||w - a t||`` (arXiv 1605.04711, eq. 5), which
                shrinks the norm by ``cos(w, t)``.
        """
        if kind == 'norm':
            return self.norm_scale
        if kind == 'lsq':
            return self.inner / self.count.clamp_min(1.0)
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
            :func:`ternary_codes` of the two, which are computed anyway.
    """
    kernels = None
    if weight.device.type in fused.DEVICES:
        kernels = fused.kernels_for(weight, codes)
    if kernels is not None:
        fields = kernels.project_rows(weight, _for_kernel(weight, threshold),
                                      MEAN_FACTOR, codes)
        return Projection(*fields.unbind())
    parts = [
        _project_block(
            weight[block],
            threshold[block] if isinstance(threshold, Tensor) else threshold,
            None if codes is None else codes[block])
        for block in row_blocks(weight)
    ]
    if len(parts) == 1:
        return parts[0]
    return Projection(*map(torch.cat, zip(*parts)))


def project_and_blend(weight: Tensor, threshold: Union[Tensor, ThresholdRule],
                      scale: str, beta: float,
                      dtype: torch.dtype) -> Optional[Tuple[Tensor, Tensor]]:
    """Make in one kernel what a layer in training needs of its weight, where
    there is one; it spares a GPU's host the calls in between.

    Args:
        weight (Tensor): Filters, shape (C_out, ...), any float dtype.
        threshold (Tensor or Callable): As of :func:`project`.
        scale (str): Kind of the scale ``a``, see :meth:`Projection.scale`.
        beta (float): Share of the way from ``w`` to ``a t``.
        dtype (torch.dtype): Of the result, which is computed in float32.

    Returns:
        tuple or None: The fields of the :class:`Projection`, (5, C_out, 1),
        and ``w + beta (a t - w)`` in shape and layout of ``weight``.
    """
    if weight.device.type not in fused.DEVICES:
        return None
    rows = dense_filters(weight)
    kernels = fused.kernels_for(rows)
    if kernels is None:
        return None
    values = empty_as(weight, dtype)
    fields = kernels.project_rows(rows, _for_kernel(rows, threshold),
                                  MEAN_FACTOR, values, scale, beta)
    return fields, values


def _for_kernel(weight: Tensor,
                threshold: Union[Tensor, ThresholdRule]) -> Optional[Tensor]:
    """Return the thresholds to give to a kernel; None for those that it finds
    itself."""
    if threshold is mean_threshold:
        return None
    return threshold if isinstance(threshold, Tensor) else threshold(weight)


def _project_block(rows: Tensor, threshold: Union[Tensor, ThresholdRule],
                   codes: Optional[Tensor]) -> Projection:
    if not isinstance(threshold, Tensor):
        threshold = threshold(rows)
    signs = ternary_codes(rows, threshold)
    # ||t||^2; the vectorized norm is faster than counting.
    count = torch.linalg.vector_norm(signs, dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if codes is not None:
        codes.copy_(signs)
    inner = signs.mul_(rows).sum(1, keepdim=True)
    count.square_().round_()
    # A NaN norm stays one: codes alone would take a filter with NaN in it for
    # a zero filter.
    norm_scale = norm / count.clamp_min(1.0).sqrt_()
    return Projection(threshold, count, inner, norm, norm_scale)


def keep_ternary_scale(weight: Tensor, scale: Tensor) -> Tensor:
    """Replace the scale of rows that are ternary already by their magnitude.

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


def _layout(weight: Tensor) -> torch.memory_format:
    if weight.is_contiguous() or not fused.is_dense(weight):
        return torch.contiguous_format
    return torch.channels_last


def rows_of(weight: Tensor) -> Tensor:
    """Return the filters of a weight as rows, each in its order in memory.

    No function of rows depends on the order within them, and a view spares
    ``channels_last`` weights a copy in each step.

    Args:
        weight (Tensor): Shape (C_out, C_in/groups, kH, kW) or (C_out, C_in).

    Returns:
        Tensor: Shape (C_out, d), a view; a copy only where ``weight`` is
        neither contiguous nor ``channels_last``.
    """
    if _layout(weight) == torch.channels_last:
        weight = weight.permute(0, 2, 3, 1)
    return weight.flatten(1)


def float_rows(weight: Tensor) -> Tensor:
    """Return :func:`rows_of` ``weight`` in float32 and out of the graph, shape
    (C_out, d)."""
    return rows_of(weight.detach()).float()


def dense_filters(weight: Tensor) -> Tensor:
    """Return what a kernel takes for ``weight``: itself where its filters are
    float32 and lie one after the other, else :func:`float_rows`."""
    if weight.dtype == torch.float32 and fused.is_dense(weight):
        return weight
    return float_rows(weight)


def empty_as(weight: Tensor, dtype: Optional[torch.dtype] = None) -> Tensor:
    """Return an uninitialized tensor in the shape and layout of ``weight``;
    :func:`rows_of` it is a view in the order of ``weight``'s rows."""
    return torch.empty_like(weight, dtype=dtype, memory_format=_layout(weight))


def in_layout_of(weight: Tensor, tensor: Tensor) -> Tensor:
    """Return ``tensor``, of ``weight``'s shape, in the layout of ``weight``; a
    copy only where they differ."""
    return tensor.contiguous(memory_format=_layout(weight))


def row_blocks(rows: Tensor) -> Iterator[slice]:
    """Yield slices of rows that fit a processor's cache, for functions that
    treat each row by itself.

    On other devices than the CPU there is one slice, because a call should be
    as large as possible there.

    Args:
        rows (Tensor): Filters, shape (C_out, ...).

    Yields:
        slice: Of consecutive filters; together they cover each filter once.
        Without any filter there is one slice, which is empty.
    """
    count = rows.shape[0]
    if rows.device.type != 'cpu':
        yield slice(0, count)
        return
    size = max(1, rows.numel() // max(count, 1))
    step = max(1, BLOCK * torch.get_num_threads() // size)
    for start in range(0, max(count, 1), step):
        yield slice(start, start + step)
