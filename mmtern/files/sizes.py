"""Where the bytes of a detector go: each tensor of its state dict with its
group, its bytes in a checkpoint and in a file, and the table of them."""
import io
import re
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ..convert.scope import PREDICTIONS as PREDICTION_NAMES
from ..layers import TernaryWeight
from ..ops import entropy

TERNARY = 'ternary weights'
PREDICTIONS = 'prediction layers'
OTHER_WEIGHTS = 'other weights'
VECTORS = 'norms, biases'
BUFFERS = 'buffers'
GROUPS = (TERNARY, PREDICTIONS, OTHER_WEIGHTS, VECTORS, BUFFERS)


def megabytes(count: float) -> str:
    """Return a number of bytes in MB (10^6 bytes) with two decimals."""
    return f'{count / 1e6:.2f} MB'


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file and its bytes.

    Attributes:
        name: Its key in the state dict.
        group: One of :data:`GROUPS`.
        weights: Number of elements.
        before: Bytes in a checkpoint.
        after: Bytes in the file, scales included.
        zeros: Number of zero codes; ternary weights only.
        codes: Bytes of the coded codes alone; ternary weights only.
        bound: The fewest bytes for these codes, by entropy.
    """
    name: str
    group: str
    weights: int
    before: int
    after: int
    zeros: int = 0
    codes: int = 0
    bound: float = 0.0

    @classmethod
    def ternary(cls, name: str, codes: Tensor, before: int, coded: int,
                scales: int) -> 'StoredTensor':
        """Return the sizes of a ternary weight.

        Args:
            name (str): Its key in the state dict.
            codes (Tensor): Values in {-1, 0, +1}, any shape.
            before (int): Bytes in a checkpoint.
            coded (int): Bytes of the codes in the file.
            scales (int): Bytes of the scales in the file.
        """
        return cls(
            name,
            TERNARY,
            codes.numel(),
            before,
            coded + scales,
            zeros=int((codes == 0).sum()),
            codes=coded,
            bound=codes.numel() * entropy(codes) / 8)


@dataclass(frozen=True)
class Sizes:
    """Stored tensors and their sums."""
    tensors: Sequence[StoredTensor]

    def in_group(self, group: str) -> 'Sizes':
        """Return the tensors of one group."""
        return Sizes([t for t in self.tensors if t.group == group])

    def total(self, attribute: str, group: Optional[str] = None) -> float:
        """Return the sum of an attribute over a group, or over all tensors."""
        tensors = self.in_group(group).tensors if group else self.tensors
        return sum(getattr(tensor, attribute) for tensor in tensors)

    @property
    def bits(self) -> float:
        """Bits per weight in the file."""
        return 8 * self.total('after') / max(self.total('weights'), 1)

    @property
    def zeros(self) -> float:
        """Share of zero codes, in [0, 1]."""
        return self.total('zeros') / max(self.total('weights'), 1)

    @property
    def ratio(self) -> float:
        """Bytes before over bytes after."""
        return self.total('before') / max(self.total('after'), 1)


class StateEntry(NamedTuple):
    """One tensor of a state dict.

    Attributes:
        name: Its key.
        tensor: A parameter or buffer.
        group: One of :data:`GROUPS`.
        layer: The ternary layer whose latent weight it is, else None.
        halves: Whether the file may hold it as float16: True for float32
            parameters but ternary weights and their trained scales.
    """
    name: str
    tensor: Tensor
    group: str
    layer: Optional[TernaryWeight]
    halves: bool


def state_entries(model: nn.Module) -> Tuple[List[StateEntry], Dict[str, str]]:
    """Return the tensors of a model's state dict in its order, each once.

    Returns:
        tuple: The entries, and a dict from each further name of a shared
        tensor to its first name.

    Raises:
        ValueError: If the state dict holds something else than tensors.
    """
    layers = {
        id(x.latent): x
        for x in model.modules() if isinstance(x, TernaryWeight)
    }
    parameters = {id(p) for p in model.parameters()}
    first_names: Dict[int, str] = {}
    entries, aliases = [], {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f'{name} of the state dict is no tensor, but '
                             f'{type(tensor).__name__}')
        if id(tensor) in first_names:
            aliases[name] = first_names[id(tensor)]
            continue
        first_names[id(tensor)] = name
        layer = layers.get(id(tensor))
        is_parameter = id(tensor) in parameters
        halves = (
            is_parameter and layer is None and tensor.dtype == torch.float32
            and not name.endswith('.weight_scale'))
        group = TERNARY if layer is not None else _group(
            name, tensor, is_parameter)
        entries.append(StateEntry(name, tensor, group, layer, halves))
    return entries, aliases


def _group(name: str, tensor: Tensor, is_parameter: bool) -> str:
    if not is_parameter:
        return BUFFERS
    if tensor.dim() < 2:
        return VECTORS
    owner = name.rpartition('.')[0]
    return PREDICTIONS if re.search(PREDICTION_NAMES, owner) else OTHER_WEIGHTS


@dataclass(frozen=True)
class SizeTable:
    """Sizes of all entries of a file, and of the file."""
    sizes: Sizes
    file_size: int
    notes: List[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Bytes of the whole state dict over bytes of the whole file."""
        return self.sizes.total('before') / self.file_size

    def table(self) -> Table:
        """Return a table of at most 80 columns: one row for each group, one
        for the rest of the file, and the sum."""
        table = Table(box=SIMPLE_HEAD)
        for head in ('layers', 'weights', 'zeros', 'bits', 'before', 'after',
                     'ratio'):
            table.add_column(
                head, justify='left' if head == 'layers' else 'right')
        for group in GROUPS:
            part = self.sizes.in_group(group)
            if part.tensors:
                table.add_row(group, f'{part.total("weights"):,}',
                              f'{part.zeros:.1%}' if group == TERNARY else '',
                              f'{part.bits:.2f}',
                              megabytes(part.total('before')),
                              megabytes(part.total('after')),
                              f'{part.ratio:.1f}x')
        header = self.file_size - self.sizes.total('after')
        table.add_row('config, names', '', '', '', '', megabytes(header), '')
        table.add_section()
        weights = self.sizes.total('weights')
        table.add_row('file', f'{weights:,}', '',
                      f'{8 * self.file_size / weights:.2f}',
                      megabytes(self.sizes.total('before')),
                      megabytes(self.file_size), f'{self.ratio:.1f}x')
        return table

    def remarks(self) -> List[str]:
        """Return the codes' distance from their entropy, the largest float
        layers and the notes, a line each."""
        ternary = self.sizes.in_group(TERNARY)
        codes, bound = ternary.total('codes'), ternary.total('bound')
        more = 100 * (codes / max(bound, 1e-9) - 1)
        remarks = [
            f'ternary codes: {megabytes(codes)}, {abs(more):.1f} % '
            f'{"over" if more >= 0 else "under"} the entropy of independent '
            f'weights ({8 * bound / ternary.total("weights"):.2f} bits each)'
        ]
        left = [t for t in self.sizes.tensors if t.group != TERNARY]
        left.sort(key=lambda tensor: -tensor.after)
        names = ', '.join(f'{t.name} {megabytes(t.after)}' for t in left[:3])
        remarks.append(f'largest of the rest: {names}')
        return remarks + list(self.notes)

    def __str__(self) -> str:
        console = Console(width=80, file=io.StringIO(), record=True)
        console.print(self.table())
        return console.export_text() + '\n'.join(self.remarks())
