"""Read a packed file, believing nothing that is not checked."""
from collections import OrderedDict
from math import prod
from typing import Any, Dict, NamedTuple

from torch import Tensor

from ..ops import weight_of
from .coding import (CODES, GAPS, PLANES, SCALE, SIGNS, CodedWeight,
                     decode_int8, decode_sparse, decode_ternary)
from .config_check import detach, forget_pretrained, refuse_strange
from .config_text import parse_config, render_config
from .container import from_bytes, read_whole
from .dataset_meta import check_dataset_meta
from .errors import TernaryFileError
from .gaps import Gaps
from .planes import Planes, decode_planes


class PackedFile(NamedTuple):
    """What a packed file holds.

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


def read_packed(path: str, trust_config: bool = False) -> PackedFile:
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
        path (str): Written by :func:`mmtern.files.save_packed`.
        trust_config (bool): Take the config as it is, plain literals that may
            name anything.

    Raises:
        FileNotFoundError: If there is no such file.
        TernaryFileError: If it is bad in any way.
    """
    try:
        with open(path, 'rb') as file:
            data = read_whole(file)
        return _parse(*from_bytes(data), trust_config)
    except TernaryFileError as error:
        # Names and versions come from the file, at any length.
        reason = ' '.join(str(error).split())[:300]
        raise TernaryFileError(f'cannot read {path!r}: {reason}') from None


def _parse(metadata: Dict[str, Any], tensors: Dict[str, Tensor],
           trust_config: bool) -> PackedFile:
    _check_types(metadata)
    dataset_meta = check_dataset_meta(metadata['dataset_meta'])
    config = _config(metadata['config'], dataset_meta, trust_config)
    state_dict: Dict[str, Tensor] = OrderedDict()
    for kind in ('ternary', 'sparse', 'int8', 'planes'):
        for name, entry in metadata[kind].items():
            try:
                weight = _decode(kind, name, entry, tensors)
            except KeyError:
                raise TernaryFileError(f'{name} is missing') from None
            except TernaryFileError as error:
                raise TernaryFileError(f'{name}: {error}') from None
            _put(state_dict, name, weight)
    # Files of layers that are not transposed, and older ones, have no such
    # entry.
    for name, groups in metadata.get('transposed', {}).items():
        _restore_transposed(state_dict, name, groups)
    for name, tensor in tensors.items():
        _put(state_dict, name, tensor)
    for name, first in metadata['aliases'].items():
        if first not in state_dict:
            raise TernaryFileError(f'{name} stands for {first}, which is '
                                   'missing')
        _put(state_dict, name, state_dict[first])
    return PackedFile(state_dict, config, dataset_meta, metadata['exact'],
                      metadata['written_by'])


def _config(text: str, dataset_meta: Dict[str, Any],
            trust_config: bool) -> str:
    """Config text made anew of what was checked, so that nothing between the
    lines is handed on."""
    values = parse_config(text)
    try:
        if trust_config:
            forget_pretrained(values)
        else:
            detach(values, dataset_meta.get('classes', ()))
            refuse_strange(values)
        return render_config(values)
    except RecursionError:
        raise TernaryFileError('its config is nested too deeply') from None


def _decode(kind: str, name: str, entry: Any, tensors: Dict[str,
                                                            Tensor]) -> Tensor:
    shape = entry
    if kind in ('planes', 'sparse'):
        if not isinstance(entry, dict):
            raise TernaryFileError('its entry is damaged')
        shape = entry.get('shape')
    _check_shape(shape, least_axes=1 if kind == 'planes' else 2)
    if kind == 'planes':
        planes = Planes(
            tensors.pop(name + PLANES), entry.get('sizes'),
            str(entry.get('dtype')))
        return decode_planes(planes, shape)
    if kind == 'sparse':
        gaps = Gaps(
            tensors.pop(name + GAPS), tensors.pop(name + SIGNS),
            entry.get('size'))
        return decode_sparse(gaps, tensors.pop(name + SCALE), shape)
    coded = CodedWeight(tensors.pop(name + CODES), tensors.pop(name + SCALE))
    return (decode_ternary if kind == 'ternary' else decode_int8)(coded, shape)


def _restore_transposed(state_dict: Dict[str, Tensor], name: str,
                        groups: Any) -> None:
    """Give the filters of a transposed conv the shape that it holds them
    in."""
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


def _check_types(metadata: Dict[str, Any]) -> None:
    expected = dict(
        config=str,
        dataset_meta=dict,
        exact=bool,
        written_by=dict,
        aliases=dict,
        ternary=dict,
        sparse=dict,
        int8=dict,
        planes=dict)
    for key, kind in expected.items():
        if not isinstance(metadata.get(key), kind):
            raise TernaryFileError(f'its metadata lack a proper {key!r}')
    if not isinstance(metadata.get('transposed', {}), dict):
        raise TernaryFileError('its metadata lack a proper \'transposed\'')
    strings = (metadata['written_by'], metadata['aliases'])
    if not all(isinstance(v, str) for d in strings for v in d.values()):
        raise TernaryFileError('its metadata hold a name that is no text')


def _check_shape(shape: Any, least_axes: int) -> None:
    # Bounded before the product: a long list of huge numbers would take
    # forever to multiply.
    good = isinstance(shape, list) and least_axes <= len(shape) <= 8 and all(
        type(axis) is int and 0 < axis < 2**31 for axis in shape)
    if not good or prod(shape) >= 2**40:
        raise TernaryFileError('it has no proper shape')
