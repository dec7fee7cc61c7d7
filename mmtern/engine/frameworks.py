"""The fit between mmtern and torch, mmengine and mmdet: their versions, the
types in their checkpoints, and the place of our configs."""
from importlib import import_module
from pickle import UnpicklingError
from typing import Any, List

import numpy
import torch
from packaging.specifiers import SpecifierSet

from ..version import SUPPORTED

MEND = 'run "bash tools/setup_env.sh", or install an accepted version by hand'


def check_versions() -> None:
    """Compare the frameworks' versions with the supported ranges.

    Raises:
        ImportError: If a framework is missing, cannot be imported beside the
            others, or has a version outside its range.
    """
    for name, accepted in SUPPORTED.items():
        found = _version(name, accepted)
        # Nightly and vendor builds (2.14.0a0+git...) count as their number.
        if not SpecifierSet(accepted).contains(found, prereleases=True):
            raise ImportError(f'mmtern needs {name}{accepted}, but {name} '
                              f'{found} is installed; {MEND}')


def _version(name: str, accepted: str) -> str:
    try:
        return import_module(name).__version__
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f'mmtern needs {name}{accepted}, which is not '
                          f'installed; {MEND}') from error
    except AssertionError as error:
        # Released mmdet and mmcv assert each other's versions at import.
        reason = ' '.join(str(error).split()).rstrip('.')
        raise ImportError(f'mmtern needs {name}{accepted}, but {name} refuses '
                          f'the packages beside it ({reason}); '
                          f'{MEND}') from error


# What a pickled HistoryBuffer refers to by name.
STATISTICS = ('current', 'max', 'mean', 'min')


def history_buffer_statistic(owner: Any, name: str) -> Any:
    """Replace ``getattr`` while unpickling, and return a statistic of
    ``HistoryBuffer`` only."""
    from mmengine.logging.history_buffer import HistoryBuffer
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
    the check of ``torch.load`` stays on for everything else.

    That of mmengine's loader does not where mmengine is onedl-mmengine: it
    allows ``getattr`` for the time of a load and, where the check refuses a
    file, warns and loads it without. Load checkpoints of others with
    ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=1`` in the environment there, which torch
    obeys in any call, or take packed files.
    """
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6):
        return  # weights_only is off by default there
    from mmengine.logging.history_buffer import HistoryBuffer
    multiarray = getattr(numpy, '_core', None) or numpy.core
    multiarray = multiarray.multiarray
    kinds = ('float32', 'float64', 'int32', 'int64', 'bool')
    types = (HistoryBuffer, numpy.ndarray, numpy.dtype,
             *(type(numpy.dtype(kind)) for kind in kinds))
    # With their names: onedl-mmengine takes the types alone off torch's list
    # after each of its loads.
    allowed: List[Any] = [(kind, f'{kind.__module__}.{kind.__qualname__}')
                          for kind in types]
    for module in ('numpy.core', 'numpy._core'):
        for name in ('_reconstruct', 'scalar'):
            allowed.append((getattr(multiarray,
                                    name), f'{module}.multiarray.{name}'))
    allowed.append((history_buffer_statistic, 'builtins.getattr'))
    torch.serialization.add_safe_globals(allowed)


def register_configs() -> None:
    """Let ``mmengine.hub.get_config('mmtern::configs/NAME.py')`` and
    ``_base_ = 'mmtern::configs/NAME.py'`` find the installed configs.

    mmengine looks a package up in this table first and refuses those that
    are not listed. It also refuses a path without a folder, hence
    ``configs/``. As a ``_base_`` it gives everything of ours the scope
    ``mmtern``, which has no registries and falls back to mmengine's own: fine
    for hooks, but not for the data sets of the small configs, which are for
    use inside the repository.
    """
    from mmengine.config.utils import MODULE2PACKAGE
    MODULE2PACKAGE.setdefault('mmtern', 'mmtern')
