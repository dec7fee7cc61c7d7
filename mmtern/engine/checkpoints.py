"""The one reader of checkpoints, for ``.pth`` and packed ``.safetensors``."""
import pickle
import re
import zipfile
from typing import Any, Dict

from mmengine.runner.checkpoint import CheckpointLoader

from ..files.errors import TernaryFileError


def read_checkpoint(path: str) -> Dict[str, Any]:
    """Read a checkpoint as mmengine's ``load_checkpoint`` does.

    Args:
        path (str): File or address, of a run, of bare weights or packed.

    Returns:
        dict: With ``state_dict`` and ``meta``, on the CPU. The names have no
        ``module.`` before them, which DDP puts there.

    Raises:
        ValueError: If the file cannot be read, or holds no weights by name.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(
            path, map_location='cpu', logger='silent')
    except TernaryFileError:
        raise
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError,
            LookupError, AttributeError, ImportError,
            zipfile.BadZipFile) as error:
        # pickle's documentation: unpickling arbitrary bytes may raise any of
        # these.
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(f'{path!r} cannot be loaded as a checkpoint: '
                         f'{type(error).__name__}: {reason}') from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path!r} cannot be loaded as a checkpoint: it '
                         f'holds {type(checkpoint).__name__}')
    state = checkpoint.get('state_dict', checkpoint)
    # In place: a packed file's state dict carries its origin with it.
    for name in list(state):
        state[re.sub(r'^module\.', '', name)] = state.pop(name)
    if state is checkpoint:
        return dict(meta={}, state_dict=state)
    return {'meta': {}, **checkpoint}
