"""The one reader of checkpoints, ``.pth`` and packed ``.safetensors``."""
import re
from typing import Any, Dict

from mmengine.runner.checkpoint import CheckpointLoader


def read_checkpoint(path: str) -> Dict[str, Any]:
    """Read a checkpoint as mmengine's ``load_checkpoint`` does.

    Args:
        path (str): File or address, of a run, of bare weights or packed.

    Returns:
        dict: With ``state_dict`` and ``meta``, on the CPU. The names have no
        ``module.`` before them, which DDP puts there.

    Raises:
        ValueError: If the file holds no weights by name.
    """
    checkpoint = CheckpointLoader.load_checkpoint(
        path, map_location='cpu', logger='silent')
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path!r} is no checkpoint: it holds a '
                         f'{type(checkpoint).__name__}')
    state = checkpoint.get('state_dict', checkpoint)
    # In place: a packed file's state dict carries its origin with it.
    for name in list(state):
        state[re.sub(r'^module\.', '', name)] = state.pop(name)
    if state is checkpoint:
        return dict(meta={}, state_dict=state)
    return {'meta': {}, **checkpoint}
