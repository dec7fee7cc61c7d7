"""The size of the file in which a detector is shipped."""
import os.path as osp
import tempfile
from typing import Optional

from mmengine.config import Config
from torch import nn

from ..convert import ternary_layers
from ..files import TernaryFileError, save_packed
from ..files.address import local_copy, names_packed


def float_size(model: nn.Module) -> int:
    """Return the bytes of all tensors in a model's state dict."""
    return sum(x.nbytes for x in model.state_dict().values())


def size_to_ship(checkpoint: str, model: nn.Module,
                 cfg: Config) -> Optional[int]:
    """Return the bytes of a packed file as it is, or :func:`shipped_size` of
    another checkpoint's model.

    Args:
        checkpoint (str): Path or address that the model was loaded from.
        model (nn.Module): With its weights, on the CPU.
        cfg (Config): Its config.
    """
    if names_packed(checkpoint):
        return osp.getsize(local_copy(checkpoint))
    return shipped_size(model, cfg)


def shipped_size(model: nn.Module, cfg: Config) -> Optional[int]:
    """Return the bytes of a ternary model's packed file as ``tools/export.py``
    writes it by default, or those of a float model's tensors; None where no
    packed file can hold the config.

    Args:
        model (nn.Module): With its weights, on the CPU.
        cfg (Config): Its config, which is in the file, too.
    """
    if not ternary_layers(model):
        return float_size(model)
    with tempfile.TemporaryDirectory() as folder:
        path = osp.join(folder, 'packed.safetensors')
        try:
            return save_packed(model, cfg, path, {}).file_size
        except TernaryFileError:
            return None
