"""Read a packed file, believing nothing that is not checked."""
from collections import OrderedDict
from math import prod
from typing import Any, Dict, NamedTuple

from torch import Tensor

from .coding import (CODES, GAPS, PLANES, SCALE, SIGNS, CodedWeight,
                     decode_int8, decode_sparse, decode_ternary)
from .config_text import check_text
from .container import from_bytes
from .errors import TernaryFileError
from .gaps import Gaps
from .planes import Planes, decode_planes


class PackedFile(NamedTuple):
    """What a packed file holds.

    Attributes:
        state_dict: With mmdet's keys; ternary layers hold the values a*t,
            float32, which a ternary layer leaves as they are.
        config: Config text, plain literals only.
        dataset_meta: ``classes`` and maybe ``palette``.
        exact: Whether these are the checkpoint's very numbers.
        written_by: Versions of the tools that wrote it.
    """
    state_dict: Dict[str, Tensor]
    config: str
    dataset_meta: Dict[str, Any]
    exact: bool
    written_by: Dict[str, str]


def read_packed(path: str) -> PackedFile:
    """Read and check a packed file; nothing in it is run.

    The memory it takes is at most 2048 times the file's size, whatever the
    file says: a byte may hold 256 weights that are nearly all zero.

    Args:
        path (str): Written by :func:`mmtern.files.save_packed`.

    Raises:
        FileNotFoundError: If there is no such file.
        TernaryFileError: If it is bad in any way.
    """
    with open(path, 'rb') as file:
        data = file.read()
    try:
        return _parse(*from_bytes(data))
    except TernaryFileError as error:
        # Names and versions come from the file, at any length.
        reason = ' '.join(str(error).split())[:300]
        raise TernaryFileError(f'cannot read {path!r}: {reason}') from None


def _parse(metadata: Dict[str, Any], tensors: Dict[str, Tensor]) -> PackedFile:
    _check_types(metadata)
    check_text(metadata['config'])
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
    for name, tensor in tensors.items():
        _put(state_dict, name, tensor)
    for name, first in metadata['aliases'].items():
        if first not in state_dict:
            raise TernaryFileError(f'{name} stands for {first}, which is '
                                   'missing')
        _put(state_dict, name, state_dict[first])
    return PackedFile(state_dict, metadata['config'],
                      _dataset_meta(metadata['dataset_meta']),
                      metadata['exact'], metadata['written_by'])


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


def _dataset_meta(meta: Dict[str, Any]) -> Dict[str, Any]:
    classes, palette = meta.get('classes', []), meta.get('palette', [])
    texts = isinstance(classes, list) and all(
        isinstance(name, str) for name in classes)
    colours = isinstance(palette, str) or isinstance(palette, list) and all(
        isinstance(colour, list) and all(type(c) is int for c in colour)
        for colour in palette)
    if not texts or not colours:
        raise TernaryFileError('its class names or colours are damaged')
    checked: Dict[str, Any] = {}
    if classes:
        checked['classes'] = tuple(classes)
    if palette:
        checked['palette'] = palette if isinstance(
            palette, str) else [tuple(colour) for colour in palette]
    return checked
