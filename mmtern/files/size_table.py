"""The table of a packed file's sizes."""
import io
from dataclasses import dataclass, field
from typing import List

from rich.console import Console
from rich.table import Table

from ..sizes import GROUPS, TERNARY, Sizes


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
        """One row a group of layers, one for the rest of the file, a sum."""
        table = Table()
        for head in ('layers', 'weights', 'zeros', 'bits/weight',
                     'bytes before', 'bytes after', 'ratio', 'share of file'):
            table.add_column(
                head, justify='left' if head == 'layers' else 'right')
        for group in GROUPS:
            part = self.sizes.of(group)
            if part.tensors:
                self._add_row(table, group, part)
        header = self.file_size - self.sizes.total('after')
        table.add_row('config, names', '', '', '', '', f'{header:,}', '',
                      f'{header / self.file_size:.1%}')
        table.add_section()
        weights = self.sizes.total('weights')
        table.add_row('file', f'{weights:,}', '',
                      f'{8 * self.file_size / weights:.3f}',
                      f'{self.sizes.total("before"):,}', f'{self.file_size:,}',
                      f'{self.ratio:.2f}', '100 %')
        return table

    def _add_row(self, table: Table, group: str, part: Sizes) -> None:
        after = part.total('after')
        table.add_row(group, f'{part.total("weights"):,}',
                      f'{part.zeros:.1%}' if group == TERNARY else '',
                      f'{part.bits:.3f}', f'{part.total("before"):,}',
                      f'{after:,}', f'{part.ratio:.2f}',
                      f'{after / self.file_size:.1%}')

    def remarks(self) -> List[str]:
        """The entropy bound, the float layers that cost most, notes."""
        ternary = self.sizes.of(TERNARY)
        codes, bound = ternary.total('codes'), ternary.total('bound')
        remarks = [
            f'ternary codes: {codes:,} bytes, entropy bound {bound:,.0f} '
            f'bytes ({8 * bound / ternary.total("weights"):.3f} '
            f'bits/weight): {codes / max(bound, 1e-9) - 1:+.1%}'
        ]
        left = [t for t in self.sizes.tensors if t.group != TERNARY]
        left.sort(key=lambda tensor: -tensor.after)
        names = ', '.join(f'{t.name} {t.after:,}' for t in left[:3])
        remarks.append(f'largest of the rest, in bytes: {names}')
        return remarks + list(self.notes)

    def __str__(self) -> str:
        console = Console(width=110, file=io.StringIO(), record=True)
        console.print(self.table())
        return console.export_text() + '\n'.join(self.remarks())
