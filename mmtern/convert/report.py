"""The report of a conversion, as records and as a table."""
import re
from dataclasses import dataclass
from io import StringIO
from operator import mul
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class LayerRecord:
    """One layer with a weight: its dotted name, weight shape and, where it
    stays full precision, the reason; else its least share of zeros."""
    name: str
    shape: Tuple[int, ...]
    weights: int
    reason: Optional[str]
    trainable: bool
    min_sparsity: float = 0.0


def left_for(reason: str) -> str:
    """Return the words of a table for the reason why a layer stays full
    precision."""
    return f'left: {reason}'


def family_of(name: str) -> str:
    """Return a layer's name with ``*`` in the place of each number."""
    return re.sub(r'\d+', '*', name)


def _families(names: Sequence[str]) -> List[str]:
    """Return the names, those that differ in nothing but numbers as one with
    their count."""
    groups: Dict[str, List[str]] = {}
    for name in names:
        groups.setdefault(family_of(name), []).append(name)
    return [
        f'{family} ({len(group)})' if len(group) > 1 else group[0]
        for family, group in groups.items()
    ]


@dataclass(frozen=True)
class ConversionReport:
    """The records of all layers of a module that hold a weight of two or more
    axes."""
    layers: Tuple[LayerRecord, ...]

    @property
    def ternary(self) -> List[LayerRecord]:
        return [layer for layer in self.layers if layer.reason is None]

    @property
    def left(self) -> List[LayerRecord]:
        return [layer for layer in self.layers if layer.reason is not None]

    def left_by_reason(self) -> Dict[str, List[LayerRecord]]:
        """Return the layers that stay full precision, with the reasons in
        alphabetical order."""
        groups: Dict[str, List[LayerRecord]] = {}
        for record in sorted(self.left, key=lambda r: str(r.reason)):
            groups.setdefault(str(record.reason), []).append(record)
        return groups

    @property
    def ternary_share(self) -> float:
        """The share of ternary weights among all weights listed, in [0, 1]."""
        total = sum(layer.weights for layer in self.layers)
        return sum(layer.weights for layer in self.ternary) / max(total, 1)

    def table(self, explain: Callable[[str], str] = left_for) -> Table:
        """Return a table with one row for the ternary layers and one for each
        reason to leave a layer, with the layers' names; those that differ in
        nothing but numbers as one.

        Args:
            explain (Callable): Words for a reason.
        """
        table = Table(box=SIMPLE_HEAD)
        for head in ('layers', 'weights'):
            table.add_column(head, justify='right')
        table.add_column('decision', overflow='fold')
        groups = dict(ternary=self.ternary) if self.ternary else {}
        groups.update((explain(reason), records)
                      for reason, records in self.left_by_reason().items())
        for decision, records in groups.items():
            names = _families([record.name for record in records])
            table.add_row(
                str(len(records)), f'{sum(r.weights for r in records):,}',
                '\n  '.join([decision, *names]))
        return table

    def remarks(self) -> List[str]:
        """Return sentences on the share of ternary weights, on their least
        share of zeros, and on frozen ones."""
        remarks = [
            f'{self.ternary_share:.1%} of the weights in convs and linears '
            'are ternary'
        ]
        zeros = [layer.min_sparsity for layer in self.ternary]
        if any(zeros):
            weights = [layer.weights for layer in self.ternary]
            total = sum(map(mul, zeros, weights)) / sum(weights)
            remarks.append(f'at least {total:.1%} of those become zeros, '
                           f'{min(zeros):.0%} to {max(zeros):.0%} in a layer')
        frozen = sum(not layer.trainable for layer in self.ternary)
        if frozen:
            remarks.append(f'{frozen} ternary layers are frozen and will not '
                           'adapt (frozen_stages)')
        return remarks

    def __str__(self) -> str:
        text = StringIO()
        Console(width=80, file=text).print(self.table())
        return '\n'.join(self.remarks() + [text.getvalue()])
