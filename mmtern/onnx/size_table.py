"""What an ONNX export's bytes are spent on."""
import os.path as osp
from dataclasses import dataclass
from typing import List, NamedTuple

from rich.table import Table


class GraphSize(NamedTuple):
    """Sizes of one graph, in bytes.

    Attributes:
        path: Its file.
        before: With float weights.
        after: As written.
        layers: Layers with integer weights.
        weights: Their number of weights.
        nbytes: Bytes of their codes and scales.
    """
    path: str
    before: int
    after: int
    layers: int
    weights: int
    nbytes: int


@dataclass(frozen=True)
class OnnxSizeTable:
    """Sizes of all graphs of an export."""
    graphs: List[GraphSize]
    notes: List[str]

    def table(self) -> Table:
        """One row a graph: its integer layers, then the file with float and
        with integer weights, in bytes."""
        table = Table()
        for head in ('file', 'layers', 'weights', 'bytes', 'bits/weight',
                     'float file', 'file', 'ratio'):
            table.add_column(
                head, justify='right' if table.columns else 'left')
        for graph in self.graphs:
            bits = 8 * graph.nbytes / max(graph.weights, 1)
            table.add_row(
                osp.basename(graph.path), str(graph.layers),
                f'{graph.weights:,}', f'{graph.nbytes:,}', f'{bits:.3f}',
                f'{graph.before:,}', f'{graph.after:,}',
                f'{graph.before / graph.after:.2f}')
        return table

    def remarks(self) -> List[str]:
        """Notes, and what not to expect."""
        return self.notes + [
            'integer weights make the file smaller, not the inference '
            'faster: engines unpack them to float before they compute'
        ]
