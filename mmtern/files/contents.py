"""What goes into a file: a model's state dict, layer by layer."""
from typing import Any, Dict, List

import torch
from torch import Tensor, nn

from .coding import (CODES, GAPS, PLANES, SCALE, SIGNS, CodedWeight,
                     encode_codes, encode_int8)
from .gaps import Gaps
from .planes import encode_planes
from .sizes import PREDICTIONS, StateEntry, StoredTensor, nbytes, state_entries


class Contents:
    """Tensors and metadata of a file while it is put together.

    Args:
        encoding (str): 'zstd' or '2bit'.
    """

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.tensors: Dict[str, Tensor] = {}
        self.sizes: List[StoredTensor] = []
        self.coded: Dict[str, Dict[str, Any]] = dict(
            ternary={}, sparse={}, int8={}, planes={}, transposed={})
        self.aliases: Dict[str, str] = {}

    def add(self, entry: StateEntry, stored: Tensor) -> None:
        """Add a tensor as it is or in another dtype."""
        name = entry.name
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
        self._note(entry, nbytes(stored))

    def add_ternary(self, entry: StateEntry) -> None:
        """Add a latent weight as codes and scales."""
        assert entry.layer is not None  # the group of ternary weights
        name, weight, layer = entry.name, entry.tensor, entry.layer
        _check_finite(name, weight)
        filters = layer.filters(weight)
        # In row-major order, whatever the weight's memory format.
        codes = layer.quantizer.codes(filters).contiguous().flatten(1)
        scale = layer.quantizer.scale(filters).flatten().cpu()
        if layer.transposed_groups:
            self.coded['transposed'][name] = layer.transposed_groups
        coded = encode_codes(codes, self.encoding)
        if isinstance(coded, Gaps):
            self.tensors[name + GAPS] = coded.gaps
            self.tensors[name + SIGNS] = coded.signs
            self.tensors[name + SCALE] = scale
            self.coded['sparse'][name] = dict(
                shape=list(filters.shape), size=coded.size)
        else:
            self._add_coded('ternary', name, filters,
                            CodedWeight(coded, scale))
        self.sizes.append(
            StoredTensor.ternary(name, codes, nbytes(weight), coded.nbytes,
                                 nbytes(scale)))

    def add_int8(self, entry: StateEntry) -> None:
        """Add a weight rounded to 8 bits."""
        _check_finite(entry.name, entry.tensor)
        coded = encode_int8(entry.tensor, self.encoding)
        self._add_coded('int8', entry.name, entry.tensor, coded)
        self._note(entry, nbytes(coded.codes) + nbytes(coded.scale))

    def _add_coded(self, kind: str, name: str, tensor: Tensor,
                   coded: CodedWeight) -> None:
        self.tensors[name + CODES] = coded.codes
        self.tensors[name + SCALE] = coded.scale
        self.coded[kind][name] = list(tensor.shape)

    def _note(self, entry: StateEntry, after: int) -> None:
        tensor = entry.tensor
        self.sizes.append(
            StoredTensor(entry.name, entry.group, tensor.numel(),
                         nbytes(tensor), after))


@torch.no_grad()
def collect(model: nn.Module, encoding: str, dtype: str,
            predictions: str) -> Contents:
    """Code a model's state dict; arguments as of
    :func:`mmtern.files.save_packed`.

    Raises:
        ValueError: For a model without ternary layers, or with weights that
            are no finite numbers.
    """
    contents = Contents(encoding)
    entries, contents.aliases = state_entries(model)
    if not any(entry.layer is not None for entry in entries):
        raise ValueError(
            f'{type(model).__name__} has no ternary layers: export it with '
            'the config it was trained with')
    for entry in entries:
        if entry.layer is not None:
            contents.add_ternary(entry)
        elif entry.group == PREDICTIONS and predictions == 'int8':
            contents.add_int8(entry)
        elif entry.halves and dtype == 'float16':
            contents.add(entry, _halved(entry.tensor))
        else:
            contents.add(entry, entry.tensor)
    return contents


def _halved(tensor: Tensor) -> Tensor:
    half = tensor.half()
    # Beyond 65504 float16 has infinity only.
    return half if bool(half.isfinite().all()) else tensor


def _check_finite(name: str, tensor: Tensor) -> None:
    if not bool(tensor.isfinite().all()):
        raise ValueError(f'{name} holds values that are no finite numbers; '
                         'the training has diverged')
