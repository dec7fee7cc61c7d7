"""A packed file: a detector's state dict, config and class names, written and
read."""
import os
from numbers import Real
from typing import Any, Dict, List, NamedTuple, Tuple, Union

import mmcv
import mmdet
import mmengine
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..checks import check_choice
from ..ops import weight_of
from ..version import __version__
from .config import config_to_text, safe_config
from .container import (check_target, from_bytes, read_whole, to_bytes,
                        write_atomically)
from .encode import (ENCODINGS, PARTS, SCALE, Encoded, decode, encode_codes,
                     encode_float, encode_int8)
from .errors import TernaryFileError
from .sizes import (PREDICTIONS, Sizes, SizeTable, StateEntry, StoredTensor,
                    state_entries)

DTYPES = ('float32', 'float16')
PREDICTION_FORMATS = ('float', 'int8')


def save_packed(model: nn.Module,
                cfg: Config,
                path: Union[str, os.PathLike],
                dataset_meta: Dict[str, Any],
                encoding: str = 'zstd',
                dtype: str = 'float32',
                predictions: str = 'float',
                force: bool = False) -> SizeTable:
    """Write a built detector with its trained weights as a packed file.

    With ``dtype='float32'`` and ``predictions='float'`` a model read back
    computes the very same numbers. The file is read back before it gets its
    name.

    Args:
        model (nn.Module): With ternary layers.
        cfg (Config): The whole config, which rebuilds the model; the file
            holds what detecting needs of it.
        path (str or os.PathLike): Target, ending in ``.safetensors``.
        dataset_meta (dict): ``classes``, and ``palette`` where there is one.
        encoding (str): 'zstd' compresses all weights; '2bit' stores four
            ternary weights a byte and the rest as any safetensors file.
        dtype (str): 'float16' halves float parameters that are not ternary
            (scales and buffers keep float32); approximate.
        predictions (str): 'int8' stores the weights of prediction layers in
            8 bits a channel; approximate.
        force (bool): Replace an existing file.

    Returns:
        SizeTable: Bytes of each group of tensors before and after.

    Raises:
        ValueError: For a bad argument, or a model without ternary layers or
            with weights that are no finite numbers.
        TernaryFileError: If the config is not made of plain literals, or
            class names or colours are none.
        FileExistsError: If ``path`` exists and ``force`` is not set.
    """
    check_choice('encoding', encoding, ENCODINGS)
    check_choice('dtype', dtype, DTYPES)
    check_choice('predictions', predictions, PREDICTION_FORMATS)
    path = os.fspath(path)
    if not path.endswith('.safetensors'):
        raise ValueError(f'a packed file is read by its ending .safetensors, '
                         f'but the target is {path!r}')
    check_target(path, force)
    exact = dtype == 'float32' and predictions == 'float'
    meta = check_dataset_meta(dataset_meta)
    metadata = dict(
        config=config_to_text(cfg, meta.get('classes', ())),
        dataset_meta=meta,
        exact=exact,
        encoding=encoding,
        written_by=dict(
            mmtern=__version__,
            torch=torch.__version__,
            mmengine=mmengine.__version__,
            mmcv=mmcv.__version__,
            mmdet=mmdet.__version__))
    tensors, sizes = _encode_state(model, encoding, dtype, predictions,
                                   metadata)
    data = to_bytes(tensors, metadata)
    notes = [] if exact else [
        'approximate: detections differ a little from the checkpoint\'s '
        f'(dtype={dtype}, predictions={predictions})'
    ]
    shapes = {name: value.shape for name, value in model.state_dict().items()}

    def read_back(temporary: str) -> None:
        packed = read_packed(temporary, trust_config=True)
        found = {name: t.shape for name, t in packed.state_dict.items()}
        if found != shapes:
            raise TernaryFileError(f'{path!r} does not read back')
        try:
            read_packed(temporary)
        except TernaryFileError as error:
            reason = str(error).partition(': ')[2]
            notes.append(f'not for everyone to read: {reason}')

    write_atomically(path, data, force, read_back)
    return SizeTable(Sizes(sizes), len(data), notes)


@torch.no_grad()
def _encode_state(
        model: nn.Module, encoding: str, dtype: str, predictions: str,
        metadata: Dict[str,
                       Any]) -> Tuple[Dict[str, Tensor], List[StoredTensor]]:
    """Encode a model's state dict.

    Args:
        metadata (dict): Receives the entries of the encoded tensors.

    Returns:
        tuple: The tensors of the file, and their sizes.
    """
    entries, metadata['aliases'] = state_entries(model)
    if not any(entry.layer is not None for entry in entries):
        raise ValueError(
            f'{type(model).__name__} has no ternary layers: export it with '
            'the config it was trained with')
    metadata.update({kind: {} for kind in (*PARTS, 'transposed')})
    tensors: Dict[str, Tensor] = {}
    sizes = []
    for entry in entries:
        name, tensor, encoded = entry.name, entry.tensor, None
        if entry.layer is not None:
            encoded, size = _encode_ternary(entry, encoding)
            if entry.layer.transposed_groups:
                metadata['transposed'][name] = entry.layer.transposed_groups
        else:
            if entry.group == PREDICTIONS and predictions == 'int8':
                _check_finite(entry)
                encoded = encode_int8(tensor, encoding)
            else:
                if entry.halves and dtype == 'float16':
                    tensor = _halved(tensor)
                if encoding == 'zstd':
                    encoded = encode_float(tensor)
            after = tensor.nbytes if encoded is None else encoded.nbytes
            size = StoredTensor(name, entry.group, tensor.numel(),
                                entry.tensor.nbytes, after)
        sizes.append(size)
        if encoded is None:
            # Cloned: a view would drag its whole storage along.
            tensors[name] = tensor.detach().cpu().contiguous().clone()
        else:
            metadata[encoded.kind][name] = encoded.entry
            for suffix, part in encoded.parts.items():
                tensors[name + suffix] = part
    return tensors, sizes


def _encode_ternary(entry: StateEntry,
                    encoding: str) -> Tuple[Encoded, StoredTensor]:
    assert entry.layer is not None  # the group of ternary weights
    _check_finite(entry)
    filters = entry.layer.filters(entry.tensor)
    # In row-major order, whatever the weight's memory format.
    codes = entry.layer.quantizer.codes(filters).contiguous()
    scale = entry.layer.quantizer.scale(filters).flatten().cpu()
    encoded = encode_codes(codes, encoding)
    size = StoredTensor.ternary(entry.name, codes, entry.tensor.nbytes,
                                encoded.nbytes, scale.nbytes)
    encoded.parts[SCALE] = scale
    return encoded, size


def _halved(tensor: Tensor) -> Tensor:
    half = tensor.half()
    # Beyond 65504 float16 has infinity only.
    return half if bool(half.isfinite().all()) else tensor


def _check_finite(entry: StateEntry) -> None:
    if not bool(entry.tensor.isfinite().all()):
        raise ValueError(f'{entry.name} holds values that are no finite '
                         'numbers; the training has diverged')


class PackedFile(NamedTuple):
    """The content of a packed file.

    Attributes:
        state_dict: With mmdet's keys; ternary layers hold the values a*t,
            float32, which a ternary layer leaves as they are.
        config: Config text, plain literals only, without pretrained
            checkpoints; see :func:`read_packed` for what else is not in it.
        dataset_meta: ``classes`` and maybe ``palette``.
        exact: Whether these are the checkpoint's very numbers.
        written_by: Versions of the tools that wrote it.
    """
    state_dict: Dict[str, Tensor]
    config: str
    dataset_meta: Dict[str, Any]
    exact: bool
    written_by: Dict[str, str]


def read_packed(path: Union[str, os.PathLike],
                trust_config: bool = False) -> PackedFile:
    """Read and check a packed file; nothing in it is run.

    The config is searched for whatever could run a command or touch a file or
    an address when a detector is built from it. Names must be registered: by
    mmengine, mmcv, mmdet or mmtern, or by a package of yours that has been
    imported. File backends, backends of the visualizer and a test data set
    that reads files when it is built are taken out, for detecting needs none
    of them. What this does not cover is a training that is run by such a
    config, whose hooks and data sets read and write files as any do.

    The memory it takes is at most 2048 times the file's size, whatever the
    file says: a byte may hold 256 weights that are nearly all zero.

    Args:
        path (str or os.PathLike): Written by
            :func:`mmtern.files.save_packed`.
        trust_config (bool): Take the config as it is, plain literals that may
            name anything.

    Raises:
        FileNotFoundError: If there is no such file.
        TernaryFileError: If it is bad in any way, or cannot be read.
    """
    path = os.fspath(path)
    try:
        with open(path, 'rb') as file:
            data = read_whole(file)
        metadata, tensors = from_bytes(data)
        _check_metadata(metadata)
        dataset_meta = check_dataset_meta(metadata['dataset_meta'])
        config = safe_config(metadata['config'],
                             dataset_meta.get('classes', ()), trust_config)
        state_dict = _decode_state(metadata, tensors)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TernaryFileError(
            f'cannot read {path!r}: {error.strerror}') from None
    except TernaryFileError as error:
        # Names and versions come from the file, at any length.
        reason = ' '.join(str(error).split())[:300]
        raise TernaryFileError(f'cannot read {path!r}: {reason}') from None
    return PackedFile(state_dict, config, dataset_meta, metadata['exact'],
                      metadata['written_by'])


def _decode_state(metadata: Dict[str, Any],
                  tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
    state_dict: Dict[str, Tensor] = {}
    for kind, suffixes in PARTS.items():
        for name, entry in metadata[kind].items():
            try:
                parts = {s: tensors.pop(name + s) for s in suffixes}
                weight = decode(Encoded(kind, entry, parts))
            except KeyError:
                raise TernaryFileError(f'{name} is missing') from None
            except TernaryFileError as error:
                raise TernaryFileError(f'{name}: {error}') from None
            _put(state_dict, name, weight)
    for name, groups in metadata['transposed'].items():
        _restore_transposed(state_dict, name, groups)
    for name, tensor in tensors.items():
        _put(state_dict, name, tensor)
    for name, first in metadata['aliases'].items():
        if first not in state_dict:
            raise TernaryFileError(f'{name} stands for {first}, which is '
                                   'missing')
        _put(state_dict, name, state_dict[first])
    return state_dict


def _restore_transposed(state_dict: Dict[str, Tensor], name: str,
                        groups: Any) -> None:
    """Give the filters of a transposed conv its weight's shape, (C_in,
    C_out/groups, kH, kW)."""
    filters = state_dict.get(name)
    if filters is None or type(groups) is not int or groups < 1:
        raise TernaryFileError(f'{name}: its groups are damaged')
    try:
        state_dict[name] = weight_of(filters, groups).contiguous()
    except ValueError as error:
        raise TernaryFileError(f'{name}: {error}') from None


def _put(state_dict: Dict[str, Tensor], name: str, tensor: Tensor) -> None:
    if name in state_dict or ':' in name:
        raise TernaryFileError(f'{name} is there twice or belongs to nothing')
    state_dict[name] = tensor


def _check_metadata(metadata: Dict[str, Any]) -> None:
    # Files without transposed convs, and older ones, have no such entry.
    metadata.setdefault('transposed', {})
    expected = dict(config=str, exact=bool)
    for key in ('dataset_meta', 'written_by', 'aliases', 'transposed', *PARTS):
        expected[key] = dict
    for key, kind in expected.items():
        if not isinstance(metadata.get(key), kind):
            raise TernaryFileError(f'its metadata lack a proper {key!r}')
    strings = (metadata['written_by'], metadata['aliases'])
    if not all(isinstance(v, str) for d in strings for v in d.values()):
        raise TernaryFileError('its metadata hold a name that is no text')


def check_dataset_meta(meta: Dict[str, Any]) -> Dict[str, Any]:
    """Check class names and colours, and bring them into the form that a
    packed file holds.

    Args:
        meta (dict): A data set's or checkpoint's; keys in any case, as in
            mmdet 2 and 3.

    Returns:
        dict: ``classes`` (tuple of str) and ``palette`` (name or list of
        tuples of int), each where there is one.

    Raises:
        TernaryFileError: If the names are no list of texts or the colours no
            list of numbers from 0 to 255.
    """
    meta = {str(key).lower(): value for key, value in meta.items()}
    checked: Dict[str, Any] = {}
    classes, palette = meta.get('classes'), meta.get('palette')
    if classes is not None and len(_sequence(classes, 'classes')):
        checked['classes'] = tuple(classes)
        for name in classes:
            if not isinstance(name, str):
                raise TernaryFileError(
                    f'the class names hold {_short(name)}, which is no text')
    if isinstance(palette, str):
        if palette:
            checked['palette'] = palette
    elif palette is not None and len(_sequence(palette, 'palette')):
        checked['palette'] = _colours(palette, len(checked.get('classes', ())))
    return checked


def _sequence(value: Any, key: str) -> Any:
    if isinstance(value, str):
        raise TernaryFileError(
            f'{key} must be a list of names, but got the text {_short(value)};'
            f' for a single class write {key}=({_short(value)}, )')
    if not isinstance(value, (list, tuple)):
        raise TernaryFileError(f'{key} must be a list, but got a '
                               f'{type(value).__name__}, {_short(value)}')
    return value


def _colours(palette: Any, classes: int) -> List[Tuple[int, ...]]:
    # mmdet takes a tuple of numbers for the one colour of all classes.
    if all(_is_level(level) for level in palette):
        palette = [palette] * max(classes, 1)
    for colour in palette:
        if not isinstance(colour,
                          (list, tuple)) or len(colour) != 3 or not all(
                              map(_is_level, colour)):
            raise TernaryFileError(
                f'the palette holds {_short(colour)}, but a colour must be '
                'three whole numbers from 0 to 255')
    return [tuple(int(level) for level in colour) for colour in palette]


def _is_level(value: Any) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    number: Any = value  # the type Real promises no comparison with int
    return bool(0 <= number <= 255 and number == int(number))


def _short(value: Any) -> str:
    return repr(value)[:80]
