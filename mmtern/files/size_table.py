"""What a file's bytes are spent on."""
import io
import math
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Optional

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

TERNARY = 'ternary weights'
PREDICTIONS = 'prediction layers'
OTHER_WEIGHTS = 'other weights'
VECTORS = 'norms, biases'
BUFFERS = 'buffers'
GROUPS = (TERNARY, PREDICTIONS, OTHER_WEIGHTS, VECTORS, BUFFERS)


def entropy_bits(codes: Tensor) -> float:
    """Bits that the codes of one layer take at least if coded independently
    with their frequencies in this layer."""
    counts = torch.stack([(codes == code).sum() for code in (-1, 0, 1)])
    share = counts.double() / max(codes.numel(), 1)
    nats = float(torch.special.entr(share).sum())
    return codes.numel() * nats / math.log(2)


@dataclass(frozen=True)
class StoredTensor:
    """One entry of a state dict: its group, size and cost.

    Attributes:
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
    zeros: Optional[int] = None
    codes: int = 0
    bound: float = 0.0


@dataclass(frozen=True)
class SizeTable:
    """Sizes of all entries of a file, and of the file."""
    entries: List[StoredTensor]
    file_size: int
    notes: List[str] = field(default_factory=list)

    def total(self, attribute: str, group: Optional[str] = None) -> float:
        """Sum of an attribute over a group, or over everything."""
        return sum(getattr(entry, attribute) or 0 for entry in self._of(group))

    @property
    def ratio(self) -> float:
        """Bytes of the whole state dict over bytes of the whole file."""
        return self.total('before') / self.file_size

    @property
    def ratio_to_bound(self) -> float:
        """Coded codes over the entropy bound; 1 is perfect."""
        return self.total('codes') / max(self.total('bound'), 1e-9)

    def _of(self, group: Optional[str]) -> Iterable[StoredTensor]:
        return [e for e in self.entries if group in (None, e.group)]

    def table(self) -> Table:
        """One row a group of layers, one for the rest of the file, a sum."""
        table = Table()
        for head in ('layers', 'weights', 'zeros', 'bits/weight',
                     'bytes before', 'bytes after', 'ratio', 'share of file'):
            table.add_column(
                head, justify='left' if head == 'layers' else 'right')
        for group in GROUPS:
            if self._of(group):
                self._add_row(table, group, group)
        header = self.file_size - int(self.total('after'))
        table.add_row('config, names', '', '', '', '', f'{header:,}', '',
                      f'{header / self.file_size:.1%}')
        table.add_section()
        weights, before = self.total('weights'), self.total('before')
        table.add_row('file', f'{weights:,}', '',
                      f'{8 * self.file_size / weights:.3f}', f'{before:,}',
                      f'{self.file_size:,}', f'{self.ratio:.2f}', '100 %')
        return table

    def _add_row(self, table: Table, title: str, group: str) -> None:
        weights = int(self.total('weights', group))
        before = int(self.total('before', group))
        after = int(self.total('after', group))
        zeros = self.total('zeros', group) / max(weights, 1)
        table.add_row(title, f'{weights:,}',
                      f'{zeros:.1%}' if group == TERNARY else '',
                      f'{8 * after / max(weights, 1):.3f}', f'{before:,}',
                      f'{after:,}', f'{before / max(after, 1):.2f}',
                      f'{after / self.file_size:.1%}')

    def remarks(self) -> List[str]:
        """The entropy bound, the float layers that cost most, notes."""
        codes, bound = self.total('codes'), self.total('bound')
        remarks = [
            f'ternary codes: {codes:,.0f} bytes, entropy bound {bound:,.0f} '
            f'bytes ({8 * bound / self.total("weights", TERNARY):.3f} '
            f'bits/weight): {self.ratio_to_bound - 1:+.1%}'
        ]
        left = [e for e in self.entries if e.group != TERNARY]
        left.sort(key=lambda entry: -entry.after)
        names = ', '.join(f'{e.name} {e.after:,}' for e in left[:3])
        remarks.append(f'largest of the rest, in bytes: {names}')
        return remarks + list(self.notes)

    def __str__(self) -> str:
        console = Console(width=110, file=io.StringIO(), record=True)
        console.print(self.table())
        return console.export_text() + '\n'.join(self.remarks())


def group_of(name: str, tensor: Tensor, parameters: Dict[str, Tensor],
             is_prediction: bool) -> str:
    """Group of an entry that is not ternary."""
    if name not in parameters:
        return BUFFERS
    if tensor.dim() < 2:
        return VECTORS
    return PREDICTIONS if is_prediction else OTHER_WEIGHTS
