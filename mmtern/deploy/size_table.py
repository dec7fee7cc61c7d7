"""The table of an ONNX export's sizes."""
import os.path as osp
from dataclasses import dataclass
from typing import List, NamedTuple

from rich.table import Table

from ..files.sizes import Sizes


class GraphSize(NamedTuple):
    """Sizes of one graph.

    Attributes:
        path: Its file.
        before: Size of the file with float weights, in bytes.
        after: Size of the file as written, in bytes.
        integers: Sizes of its integer weights.
    """
    path: str
    before: int
    after: int
    integers: Sizes


@dataclass(frozen=True)
class OnnxSizeTable:
    """Sizes of all graphs of an export, and notes about it."""
    graphs: List[GraphSize]
    notes: List[str]

    def table(self) -> Table:
        """Return a table with a row for each graph: its integer layers, then
        the file with float and with integer weights, in bytes."""
        table = Table()
        for head in ('file', 'layers', 'weights', 'bytes', 'bits/weight',
                     'float file', 'file', 'ratio'):
            table.add_column(
                head, justify='right' if table.columns else 'left')
        for path, before, after, integers in self.graphs:
            table.add_row(
                osp.basename(path), str(len(integers.tensors)),
                f'{integers.total("weights"):,}',
                f'{integers.total("after"):,}', f'{integers.bits:.3f}',
                f'{before:,}', f'{after:,}', f'{before / after:.2f}')
        return table

    def remarks(self) -> List[str]:
        """Return what there is to say of the export beside its sizes."""
        return list(self.notes)
