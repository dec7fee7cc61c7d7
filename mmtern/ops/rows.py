"""Filters as rows, in blocks that stay in a processor's cache."""
from typing import Iterator, Optional

import torch
from torch import Tensor

# Weights a thread works on at once. The three float tensors that a function
# makes of them fit the second-level cache or nearly so, which spares it ten
# passes through main memory and fresh memory from the system. Smaller blocks
# spend more time on calls than they save.
BLOCK = 1 << 17


def _layout(weight: Tensor) -> torch.memory_format:
    channels_last = (
        weight.dim() == 4 and not weight.is_contiguous()
        and weight.is_contiguous(memory_format=torch.channels_last))
    return torch.channels_last if channels_last else torch.contiguous_format


def rows_of(weight: Tensor) -> Tensor:
    """Filters as rows, a view, each in the order in which it lies in memory.

    What is done to rows here depends on no order within them, and a view
    spares ``channels_last`` weights a copy in each step.

    Args:
        weight (Tensor): Shape (C_out, C_in/groups, kH, kW) or (C_out, C_in).

    Returns:
        Tensor: Shape (C_out, d); a copy only where ``weight`` is neither
        contiguous nor ``channels_last``.
    """
    if _layout(weight) == torch.channels_last:
        weight = weight.permute(0, 2, 3, 1)
    return weight.flatten(1)


def float_rows(weight: Tensor) -> Tensor:
    """:func:`rows_of` it in float32 and out of the graph, shape (C_out, d)."""
    return rows_of(weight.detach()).float()


def empty_as(weight: Tensor, dtype: Optional[torch.dtype] = None) -> Tensor:
    """Memory in the shape and layout of ``weight``, such that
    :func:`rows_of` it is a view in the order of ``weight``'s rows."""
    return torch.empty_like(weight, dtype=dtype, memory_format=_layout(weight))


def in_layout_of(weight: Tensor, tensor: Tensor) -> Tensor:
    """``tensor``, of ``weight``'s shape, in its layout; a copy only where
    they differ."""
    return tensor.contiguous(memory_format=_layout(weight))


def row_blocks(rows: Tensor) -> Iterator[slice]:
    """Slices of ``rows``' first dimension, for functions that see each row by
    itself.

    On other devices than the CPU, one slice: there each call should be as
    large as can be.

    Args:
        rows (Tensor): Filters, shape (C_out, ...).

    Yields:
        slice: Of consecutive filters, together all of them once.
    """
    count = rows.shape[0]
    if rows.device.type != 'cpu':
        yield slice(0, count)
        return
    size = max(1, rows.numel() // max(count, 1))
    step = max(1, BLOCK * torch.get_num_threads() // size)
    for start in range(0, count, step):
        yield slice(start, start + step)
