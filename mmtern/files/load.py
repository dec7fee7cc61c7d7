"""Packed files wherever mmengine reads a checkpoint, and without a
config."""
from collections import OrderedDict
from typing import Any, Dict, List, NoReturn, Optional

from mmengine.runner import CheckpointLoader
from torch import nn

from .config_text import config_from_text
from .errors import TernaryFileError
from .read import read_packed

# Rides on the state dict's ``_metadata``, as torch's module versions do.
_ORIGIN = 'packed_file'


# The loader finds its schemes with ``re.match``, so that one can be told by
# the ending as well as by a prefix.
@CheckpointLoader.register_scheme(prefixes=r'.*\.safetensors$')
def load_from_packed(filename: str,
                     map_location: Optional[str] = None) -> Dict[str, Any]:
    """Read a packed file as a checkpoint: ``state_dict`` and ``meta`` with
    config text and class names. ``map_location`` may be any that torch.load
    takes a name for.

    Raises:
        FileNotFoundError: If there is no such file.
        TernaryFileError: If it is bad in any way.
    """
    packed = read_packed(filename)
    state_dict = OrderedDict(packed.state_dict)
    if isinstance(map_location, str) and map_location != 'cpu':
        for name, tensor in state_dict.items():
            state_dict[name] = tensor.to(map_location)
    modules = {name.rpartition('.')[0] for name in state_dict} | {''}
    for name in list(modules):
        while '.' in name:
            name = name.rpartition('.')[0]
            modules.add(name)
    state_dict._metadata = {name: {_ORIGIN: filename} for name in modules}
    meta = _Meta(cfg=packed.config, dataset_meta=packed.dataset_meta)
    meta.origin = filename
    return dict(meta=meta, state_dict=state_dict)


class _Meta(dict):
    """A checkpoint's meta without progress; mmengine asks it for 'epoch'
    and 'iter' only where a run is to be resumed."""
    origin = ''

    def __missing__(self, key: str) -> NoReturn:
        raise TernaryFileError(
            f'{self.origin!r} is a packed file, whose meta holds no {key!r}: '
            'a run resumes from a training checkpoint; to start a new run '
            'from these weights, set load_from and resume=False')


def refuse_other_files(module: nn.Module) -> None:
    """Make a ternary model raise where it is given the packed file of
    another one; mmengine would only log the mismatch."""
    module._register_load_state_dict_pre_hook(_check_fit, with_module=True)


def _check_fit(module: nn.Module, state_dict: Dict[str, Any], prefix: str,
               local_metadata: Dict[str, Any], strict: bool,
               missing_keys: List[str], unexpected_keys: List[str],
               error_msgs: List[str]) -> None:
    origin = local_metadata.get(_ORIGIN)
    if origin is None:
        return
    own = {prefix + k: v for k, v in module.state_dict().items()}
    given = {k: v for k, v in state_dict.items() if k.startswith(prefix)}
    wrong = [k for k in own if k not in given]
    wrong += [k for k in given if k not in own]
    wrong += [k for k in own if k in given and own[k].shape != given[k].shape]
    if wrong:
        raise TernaryFileError(
            f'{origin!r} is the packed file of another model: {len(wrong)} of '
            f'{len(own)} entries differ, like {wrong[0]}')


def load_detector(path: str, device: str = 'cpu') -> nn.Module:
    """Build the detector that a packed file holds, ready for
    ``mmdet.apis.inference_detector``.

    No other file is needed. The config in the file is checked to be plain
    literals, yet its ``type`` and ``custom_imports`` name code to run, as in
    any config: load files from sources you trust. (Given your own config,
    ``init_detector(config, path)`` uses the file's weights only.)

    Args:
        path (str): Packed file.
        device (str): Where the model goes.

    Raises:
        FileNotFoundError: If there is no such file.
        TernaryFileError: If it is bad in any way.
    """
    # mmdet.apis imports data sets and visualizers, which training may not
    # need.
    from mmdet.apis import init_detector
    packed = read_packed(path)
    return init_detector(config_from_text(packed.config), path, device=device)
