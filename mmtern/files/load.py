"""Detectors from files: from a packed file alone, from a config and a
checkpoint that must fit it, and packed files wherever mmengine reads a
checkpoint."""
import os
import pickle
import zipfile
from collections import OrderedDict
from contextlib import nullcontext
from typing import Any, Dict, List, NoReturn, Optional, Tuple, Union

from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from .address import URL, local_copy
from .bounds import bounded_by
from .config import model_to_build, parse_config
from .errors import TernaryFileError
from .packed import check_dataset_meta, read_packed
from .provenance import warn_if_untrained

# Rides on the state dict's ``_metadata``, as torch's module versions do.
_ORIGIN = 'packed_file'


def load_detector(path: Union[str, os.PathLike],
                  device: str = 'cpu',
                  trust_config: bool = False) -> nn.Module:
    """Build the detector that a packed file holds, ready for
    ``mmdet.apis.inference_detector``.

    No other file is needed. The config in the file builds registered parts
    only: those of mmengine, mmcv, mmdet and mmtern, and of packages of yours
    that you have imported before. It can neither run a command nor open a
    file or an address, nor build far more than the file's tensors fill; see
    :func:`mmtern.files.read_packed`.

    Args:
        path (str or os.PathLike): Packed file, or its ``https`` address;
            what is fetched is kept in torch's hub folder and not fetched
            again.
        device (str): Where the model goes.
        trust_config (bool): Import and build whatever the config names, as
            mmengine does with any config. It may run any command: set it for
            files of your own.

    Raises:
        FileNotFoundError: If there is no such file.
        TernaryFileError: If it is bad in any way.
    """
    path = os.fspath(path)
    if path.endswith(('.pth', '.onnx')):
        raise TernaryFileError(
            f'load_detector takes a packed .safetensors file, but got {path!r}'
            ': tools/export.py writes one from a checkpoint, '
            'mmdet.apis.init_detector loads a checkpoint with its config, and '
            'tools/detect.py runs an .onnx file')
    packed = read_packed(local_copy(path), trust_config)
    warn_if_untrained(packed.config, path)
    try:
        if trust_config:
            cfg = Config.fromstring(packed.config, file_format='.py')
        else:
            cfg = Config(parse_config(packed.config))
        init_default_scope(cfg.get('default_scope') or 'mmdet')
        with nullcontext() if trust_config else bounded_by(packed.state_dict):
            model = revert_sync_batchnorm(MODELS.build(model_to_build(cfg)))
        # The strict check names every entry; the first ones tell enough.
        model.load_state_dict(packed.state_dict)
    except Exception as error:  # whatever a constructor raises
        raise TernaryFileError(f'cannot build the detector of {path!r}: '
                               f'{_shortened(error)}') from error
    model.cfg = cfg
    # mmdet draws without colours of the file's own in random ones.
    model.dataset_meta = dict(dict(palette='random'), **packed.dataset_meta)
    return model.to(device).eval()


def build_trained(cfg: Config,
                  checkpoint: str) -> Tuple[nn.Module, Dict[str, Any]]:
    """Build a config's detector and load a checkpoint, strictly.

    Args:
        cfg (Config): Its ``model`` and, where the checkpoint does not tell
            the classes, its test data set's are used.
        checkpoint (str): Anything mmengine's checkpoint loader reads.

    Returns:
        tuple: The model in eval, on the CPU, and the data set's meta
        (``classes``, ``palette``).

    Raises:
        ValueError: If the file is no checkpoint or does not fit the model, or
            holds class names or colours that are none.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = revert_sync_batchnorm(MODELS.build(model_to_build(cfg)))
    try:
        loaded = load_checkpoint(model, checkpoint, 'cpu', strict=True)
    except TernaryFileError:
        raise
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError,
            LookupError, AttributeError, ImportError,
            zipfile.BadZipFile) as error:
        # pickle's documentation: unpickling arbitrary bytes may raise any of
        # these.
        raise ValueError(
            f'checkpoint {checkpoint!r} cannot be loaded into '
            f'the config\'s model: {_shortened(error)}') from error
    meta = (loaded.get('meta') or {}).get('dataset_meta')
    if not meta:
        dataset = dict(cfg.test_dataloader.dataset, lazy_init=True)
        meta = DATASETS.build(dataset).metainfo
    return model.eval(), check_dataset_meta(meta)


def _shortened(error: Exception) -> str:
    reason = ' '.join(str(error).split())
    return reason if len(reason) <= 300 else f'{reason[:300]}...'


# The loader finds its schemes with ``re.match``, so that one can be told by
# the ending as well as by a prefix, and tries longer texts of those with a
# common beginning first.
@CheckpointLoader.register_scheme(prefixes=(r'.*\.safetensors$', URL))
def load_from_packed(filename: str,
                     map_location: Optional[str] = None) -> Dict[str, Any]:
    """Read a packed file as a checkpoint.

    Args:
        filename (str): Packed file, or its ``https`` address.
        map_location (str, optional): Any that torch.load takes a name for.

    Returns:
        dict: ``state_dict``, and ``meta`` with config text and class names.

    Raises:
        FileNotFoundError: If there is no such file.
        TernaryFileError: If it is bad in any way.
    """
    packed = read_packed(local_copy(filename))
    state_dict = OrderedDict(packed.state_dict)
    if isinstance(map_location, str) and map_location != 'cpu':
        for name, tensor in state_dict.items():
            state_dict[name] = tensor.to(map_location)
    modules = {name.rpartition('.')[0] for name in state_dict} | {''}
    for name in list(modules):
        while '.' in name:
            name = name.rpartition('.')[0]
            modules.add(name)
    # Where torch keeps the versions of modules.
    setattr(state_dict, '_metadata',
            {name: {
                _ORIGIN: filename
            }
             for name in modules})
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
    """Make a model raise where it is given the packed file of another one;
    mmengine would only log the mismatch.

    Args:
        module (nn.Module): Float or ternary; receives a load hook.
    """
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
