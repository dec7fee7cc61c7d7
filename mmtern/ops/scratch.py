"""Memory used again: fresh memory takes longer to come by than to fill."""
import threading
from typing import Dict, Optional

import torch
from torch import Tensor

from .rows import empty_as

# Most elements of a buffer. It lives through the optimizer's step, where
# tensors are at their peak, and 1 << 20 saved no time that could be measured;
# without any, a step of RetinaNet-R50 takes 7 % longer.
LARGEST = 1 << 18


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


def codes_memory(weight: Tensor, last: Optional[Tensor]) -> Tensor:
    """Memory for codes in ``weight``'s layout: that of the ``last`` training
    step where it fits. A graph that still holds those codes fails loudly in
    its backward, as one that holds a changed weight does."""
    if (last is not None and last.device == weight.device
            and last.shape == weight.shape
            and last.stride() == weight.stride() and not last.is_inference()):
        return last
    return empty_as(weight, torch.int8)
