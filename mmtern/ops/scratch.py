"""Memory for tensors that live through one call."""
import threading
from typing import Dict

import torch
from torch import Tensor

# Most elements of a buffer. Larger weights are few, and a buffer of their size
# would count in the peak of memory.
LARGEST = 1 << 20


class _Buffers(threading.local):
    """Of each thread its own: the largest asked for of each dtype."""

    def __init__(self) -> None:
        self.of: Dict[torch.dtype, Tensor] = {}


_BUFFERS = _Buffers()


def scratch_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Memory in ``tensor``'s shape and layout that the thread's next call
    hands out again.

    For a copy of a weight that lives through one convolution: fresh memory
    of that size comes from the system, page by page, and goes back to it,
    which takes longer than to fill it. Beyond ``LARGEST`` elements the result
    is fresh, and on other devices than the CPU, where PyTorch's own allocator
    keeps freed memory.

    Args:
        tensor (Tensor): Dense, in any order of its dimensions.
        dtype (torch.dtype): Of the result.
    """
    if tensor.device.type != 'cpu' or tensor.numel() > LARGEST:
        return torch.empty_like(tensor, dtype=dtype)
    buffer = _BUFFERS.of.get(dtype)
    if buffer is None or buffer.numel() < tensor.numel():
        buffer = torch.empty(tensor.numel(), dtype=dtype)
        _BUFFERS.of[dtype] = buffer
    return buffer.as_strided(tensor.shape, tensor.stride())
