"""Whether :mod:`.kernels` can be used."""
import warnings
from typing import Any, Dict, Optional

import torch
from torch import Tensor

# Device types that the kernels run on; to be set to () to go without them.
# There a layer in training computes with a float copy of its ternary weight,
# as a kernel can write it; elsewhere from int8 codes.
DEVICES = ('cuda', )

# The kernels of each of these types once they were tried: a module, or None.
KERNELS: Dict[str, Any] = {}


def kernels_for(weight: Tensor, *others: Optional[Tensor]) -> Any:
    """The kernels, as a module, where filters of these can be given to them:
    ``weight`` in float32, all without gaps in memory and on a GPU with a
    Triton that works. Else None."""
    device = weight.device.type
    if device not in DEVICES or weight.dtype != torch.float32:
        return None
    if not (weight.numel() and is_dense(weight)
            and all(x is None or is_dense(x) for x in others)):
        return None
    if device not in KERNELS:
        KERNELS[device] = _try_kernels(device)
    return KERNELS[device]


def is_dense(tensor: Tensor) -> bool:
    """Return whether the filters of ``tensor`` lie in memory one after the
    other, without gaps: contiguous or ``channels_last``."""
    return tensor.is_contiguous() or (
        tensor.dim() == 4
        and tensor.is_contiguous(memory_format=torch.channels_last))


def _try_kernels(device: str) -> Any:
    """Run them twice: Triton compiles on the spot, which needs a C compiler,
    and what it compiled is started another way. Then look at what they
    make."""
    try:
        from . import kernels
        row = torch.tensor([[3.0, -1.0]], device=device)
        out = torch.empty_like(row)
        for _ in range(2):
            one = kernels.project_rows(row, None, 0.7, out.zero_(), 'norm')[0]
            kernels.rescale_rows(row, row, one, 1.0, 0.2, True,
                                 torch.empty_like(row))
            kernels.turn_rows(row, one, one, one, torch.empty_like(row))
            if not torch.allclose(out, out.new_tensor([[10**0.5, 0.0]])):
                raise ValueError(f'made {out.tolist()} of {row.tolist()}')
        return kernels
    except Exception as error:  # whatever a compiler may raise
        warnings.warn(
            'Ternary training on this GPU goes without its Triton kernels, '
            f'slower: {type(error).__name__}: {error}')
        return None
