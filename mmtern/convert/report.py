"""What a conversion did, as rows and as a table for the log."""
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from typing import List, Optional, Tuple

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class LayerRecord:
    """One layer with a weight: its dotted name, weight shape and, where it
    stays full precision, the reason."""
    name: str
    shape: Tuple[int, ...]
    weights: int
    reason: Optional[str]
    trainable: bool


@dataclass(frozen=True)
class ConversionReport:
    """All layers of a module that hold a weight of two or more axes."""
    layers: Tuple[LayerRecord, ...]

    @property
    def ternary(self) -> List[LayerRecord]:
        return [layer for layer in self.layers if layer.reason is None]

    @property
    def left(self) -> List[LayerRecord]:
        return [layer for layer in self.layers if layer.reason is not None]

    @property
    def ternary_share(self) -> float:
        """Ternary weights over all weights listed, in [0, 1]."""
        total = sum(layer.weights for layer in self.layers)
        return sum(layer.weights for layer in self.ternary) / max(total, 1)

    def __str__(self) -> str:
        """Table with a row for what became ternary and one for each reason
        to leave a layer, with the layers' names."""
        table = Table('decision', 'layers', 'weights', 'names')
        groups = Counter(layer.reason for layer in self.layers)
        for reason in sorted(groups, key=lambda r: (r is not None, r)):
            members = [x for x in self.layers if x.reason == reason]
            names = [x.name for x in members]
            if reason is None and len(names) > 6:
                names = names[:3] + ['...'] + names[-2:]
            table.add_row('ternary' if reason is None else f'left: {reason}',
                          str(len(members)),
                          f'{sum(x.weights for x in members):,}',
                          ', '.join(names))
        text = StringIO()
        Console(width=100, file=text).print(table)
        frozen = sum(not layer.trainable for layer in self.ternary)
        note = (f'{frozen} ternary layers are frozen and will not adapt '
                '(frozen_stages)\n' if frozen else '')
        return (f'{self.ternary_share:.1%} of the weights are ternary\n'
                f'{note}{text.getvalue()}')
