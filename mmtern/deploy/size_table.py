"""The table of an ONNX export's sizes."""
import os.path as osp
from dataclasses import dataclass
from typing import List, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..files.sizes import Sizes, megabytes


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
        """Return a table of at most 80 columns with one row a graph: its
        integer weights, then the file with float weights and as written."""
        table = Table(box=SIMPLE_HEAD)
        table.add_column('file', overflow='fold')
        for head in ('layers', 'weights', 'bits', 'before', 'after', 'ratio'):
            table.add_column(head, justify='right', no_wrap=True)
        for path, before, after, integers in self.graphs:
            table.add_row(
                osp.basename(path), str(len(integers.tensors)),
                f'{integers.total("weights"):,}', f'{integers.bits:.2f}',
                megabytes(before), megabytes(after), f'{before / after:.1f}x')
        return table

    def remarks(self) -> List[str]:
        """Return what there is to say of the export beside its sizes."""
        return list(self.notes)
