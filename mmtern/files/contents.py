"""What goes into a file: a model's state dict, layer by layer."""
import re
from typing import Any, Dict, List

import torch
from torch import Tensor, nn

from ..convert import ternary_layers
from ..convert.scope import PREDICTIONS as PREDICTION_NAMES
from .coding import (CODES, PLANES, SCALE, CodedWeight, encode_int8,
                     encode_ternary)
from .planes import encode_planes
from .size_table import (PREDICTIONS, TERNARY, StoredTensor, entropy_bits,
                         group_of)


class Contents:
    """Tensors and metadata of a file while it is put together.

    Args:
        encoding (str): 'zstd' or '2bit'.
    """

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.tensors: Dict[str, Tensor] = {}
        self.entries: List[StoredTensor] = []
        self.coded: Dict[str, Dict[str, Any]] = dict(
            ternary={}, int8={}, planes={})
        self.aliases: Dict[str, str] = {}

    def add(self, name: str, group: str, tensor: Tensor,
            stored: Tensor) -> None:
        """Add a tensor as it is or in another dtype."""
        planes = encode_planes(stored) if self.encoding == 'zstd' else None
        if planes is None:
            # Cloned: a view would drag its whole storage along.
            stored = stored.detach().cpu().contiguous().clone()
            self.tensors[name] = stored
        else:
            self.coded['planes'][name] = dict(
                shape=list(stored.shape),
                dtype=planes.dtype,
                sizes=planes.sizes)
            stored = self.tensors[name + PLANES] = planes.data
        self.entries.append(
            StoredTensor(name, group, tensor.numel(), _nbytes(tensor),
                         _nbytes(stored)))

    def add_coded(self, kind: str, name: str, group: str, tensor: Tensor,
                  coded: CodedWeight, **measures: Any) -> None:
        """Add a weight of integer codes; ``kind`` is 'ternary' or 'int8',
        ``measures`` are fields of :class:`StoredTensor`."""
        self.tensors[name + CODES] = coded.codes
        self.tensors[name + SCALE] = coded.scale
        self.coded[kind][name] = list(tensor.shape)
        self.entries.append(
            StoredTensor(name, group, tensor.numel(), _nbytes(tensor),
                         _nbytes(coded.codes) + _nbytes(coded.scale),
                         **measures))


@torch.no_grad()
def collect(model: nn.Module, encoding: str, dtype: str,
            predictions: str) -> Contents:
    """Code a model's state dict; arguments as of
    :func:`mmtern.files.save_packed`.

    Raises:
        ValueError: For a model without ternary layers, or with weights that
            are no finite numbers.
    """
    layers = {
        id(layer.weight): layer
        for layer in ternary_layers(model).values()
    }
    if not layers:
        raise ValueError(
            f'{type(model).__name__} has no ternary layers: export it with '
            'the config it was trained with')
    contents = Contents(encoding)
    first_names: Dict[int, str] = {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f'{name} of the state dict is no tensor, but '
                             f'{type(tensor).__name__}')
        if id(tensor) in first_names:
            contents.aliases[name] = first_names[id(tensor)]
            continue
        first_names[id(tensor)] = name
        is_prediction = _is_prediction(name)
        group = group_of(name, tensor, parameters, is_prediction)
        if id(tensor) in layers:
            _add_ternary(contents, name, layers[id(tensor)])
        elif group == PREDICTIONS and predictions == 'int8':
            _check_finite(name, tensor)
            contents.add_coded('int8', name, group, tensor,
                               encode_int8(tensor, encoding))
        else:
            half = dtype == 'float16' and name in parameters
            stored = _halved(name, tensor) if half else tensor
            contents.add(name, group, tensor, stored)
    return contents


def _add_ternary(contents: Contents, name: str, layer: nn.Module) -> None:
    weight = layer.weight
    _check_finite(name, weight)
    codes = layer.ternarizer.codes(weight)
    coded = encode_ternary(codes, layer.ternarizer.scale(weight),
                           contents.encoding)
    contents.add_coded(
        'ternary',
        name,
        TERNARY,
        weight,
        coded,
        zeros=int((codes == 0).sum()),
        codes=_nbytes(coded.codes),
        bound=entropy_bits(codes) / 8)


def _halved(name: str, tensor: Tensor) -> Tensor:
    # Trained scales of ternary layers stay exact, as the others do.
    if tensor.dtype != torch.float32 or name.endswith('.weight_scale'):
        return tensor
    half = tensor.half()
    # Beyond 65504 float16 has infinity only.
    return half if bool(half.isfinite().all()) else tensor


def _check_finite(name: str, tensor: Tensor) -> None:
    if not bool(tensor.isfinite().all()):
        raise ValueError(f'{name} holds values that are no finite numbers; '
                         'the training has diverged')


def _is_prediction(name: str) -> bool:
    return re.search(PREDICTION_NAMES, name.rpartition('.')[0]) is not None


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
