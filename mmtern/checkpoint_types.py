"""Let torch's safe unpickler read what mmengine writes into checkpoints."""
from pickle import UnpicklingError
from typing import Any

import numpy
import torch
from mmengine.logging.history_buffer import HistoryBuffer

# What a pickled HistoryBuffer refers to by name.
STATISTICS = ('current', 'max', 'mean', 'min')


def history_buffer_statistic(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` while unpickling: a statistic of
    ``HistoryBuffer`` and nothing else."""
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise UnpicklingError(
            f'a checkpoint may only refer to {STATISTICS} of HistoryBuffer, '
            f'but this one asks for {name!r} of {owner!r}')
    return getattr(owner, name)


def allow_mmengine_types() -> None:
    """Allow the types of mmengine's own checkpoints under ``weights_only``.

    From torch 2.6 on, ``torch.load`` accepts only tensors and plain
    containers unless told otherwise, and mmengine 0.10.7 does not tell it
    (mmengine issue 1655): its message hub holds ``HistoryBuffer`` objects
    with numpy arrays. Building these runs no code of the file's choosing, so
    the check stays on for everything else.
    """
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6):
        return  # weights_only is off by default there
    multiarray = getattr(numpy, '_core', None) or numpy.core
    multiarray = multiarray.multiarray
    kinds = ('float32', 'float64', 'int32', 'int64', 'bool')
    allowed = [
        HistoryBuffer, numpy.ndarray, numpy.dtype,
        *(type(numpy.dtype(kind)) for kind in kinds)
    ]
    for module in ('numpy.core', 'numpy._core'):
        for name in ('_reconstruct', 'scalar'):
            allowed.append((getattr(multiarray,
                                    name), f'{module}.multiarray.{name}'))
    allowed.append((history_buffer_statistic, 'builtins.getattr'))
    torch.serialization.add_safe_globals(allowed)
