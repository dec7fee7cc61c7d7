"""The accuracy benchmark's table."""
from operator import itemgetter
from statistics import mean, stdev
from typing import List

from .results import Line, Row, by_seed, gain_over, panels, run_of


def spread(values: List[float]) -> str:
    """Mean and standard deviation over seeds."""
    if not values:
        return '-'
    if len(values) == 1:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'


def difference(values: List[float]) -> str:
    """Mean of what was measured within each seed, and its standard error."""
    if not values:
        return '-'
    text = f'{mean(values):+.1f}'.replace('-0.0', '+0.0')
    if len(values) == 1:
        return text
    return f'{text} ± {stdev(values) / len(values)**0.5:.1f}'


def markdown_table(lines: List[Line]) -> str:
    """One table a panel: mean and standard deviation over seeds; differences
    from float and from TWN within each seed, with their standard error; a
    failed run is a line with its error. What the lines hold beside it would
    make the table wider than a page."""
    text = []
    for panel, rows in panels(lines).items():
        text += [
            f'**{panel.title}**', '',
            '| setting | seeds | AP | AP50 | val AP | over float, s.e. | over '
            'TWN, s.e. | ... on val | zeros | cos(w, t) | in |',
            '|---' * 11 + '|'
        ]
        for row, group in rows.items():
            text.append('| ' + ' | '.join(_cells(row, group, lines)) + ' |')
        text.append('')
    text += [
        f'Failed: {run_of(line).name}, {line["error"]}' for line in lines
        if 'error' in line
    ]
    return '\n'.join(text).rstrip() + '\n'


def _cells(row: Row, group: List[Line], lines: List[Line]) -> List[str]:

    def over(method: str, key: str) -> str:
        return difference(
            by_seed(group, lambda line: gain_over(line, lines, method, key)))

    cells = [row.title, str(len({line['seed'] for line in group}))]
    cells += [
        spread(by_seed(group, itemgetter(key)))
        for key in ('AP', 'AP50', 'val_AP')
    ]
    cells += [over('fp', 'AP'), over('twn', 'AP'), over('twn', 'val_AP')]
    if 'zeros' in group[0]:

        def average(key: str) -> float:
            return mean(by_seed(group, itemgetter(key)))

        cells += [f'{average("zeros"):.1%}', f'{average("cosine"):.3f}']
    else:
        cells += ['-', '-']
    used = {run_of(line).amp for line in group}
    names = {False: 'fp32', True: 'bf16'}
    return cells + [', '.join(names[amp] for amp in sorted(used))]
