"""Result lines of the accuracy benchmark: file, table, plot."""
import json
import os.path as osp
from dataclasses import fields, replace
from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple, Optional

from .methods import METHODS
from .plan import BUDGETS, DETECTORS, Run

Line = Dict[str, Any]

COLORS = {'fp': 'tab:gray', 'mmtern': 'tab:red'}
ABLATION_COLOR = 'tab:orange'


def read_lines(path: str) -> List[Line]:
    """All result lines of a file; none if it does not exist."""
    if not osp.isfile(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file if line.strip()]


def append_line(path: str, line: Line) -> None:
    """Add one result line."""
    with open(path, 'a') as file:
        file.write(json.dumps(line) + '\n')


def is_finished(run: Run, lines: List[Line]) -> bool:
    """Whether a line without an error stands for this run."""
    return any(_run_of(line) == run and 'error' not in line for line in lines)


def _run_of(line: Line) -> Run:
    # A line older than one of the fields was run with that field's default.
    return Run(
        **{
            field.name: line[field.name]
            for field in fields(Run) if field.name in line
        })


class Panel(NamedTuple):
    """Runs that may be compared: one table, one plot."""
    detector: str
    budget: str
    float_epochs: int
    extra_epochs: int
    amp: bool

    @property
    def title(self) -> str:
        precision = 'bfloat16' if self.amp else 'float32'
        return (f'{DETECTORS[self.detector]}, {self.float_epochs} float + '
                f'{self.extra_epochs} epochs ({self.budget}), {precision}')


class Row(NamedTuple):
    """One setting over its seeds."""
    setting: str
    is_ablation: bool
    scope: str
    min_sparsity: float
    lr: float

    @property
    def title(self) -> str:
        parts = [
            f'mmtern, {self.setting}' if self.is_ablation else self.setting
        ]
        if self.scope != 'all':
            parts.append(f'{self.scope} only')
        if self.min_sparsity:
            parts.append(f'at least {self.min_sparsity:.0%} zeros')
        parts.append(f'lr {self.lr:g}')
        return ', '.join(parts)


def panels(lines: List[Line]) -> Dict[Panel, Dict[Row, List[Line]]]:
    """The finished lines of each setting, in the order of the plan's tables:
    detectors, budgets, methods, ablations, learning rates."""
    found: Dict[Panel, Dict[Row, List[Line]]] = {}
    for line in sorted(lines, key=_order):
        if 'error' in line:
            continue
        run = _run_of(line)
        panel = Panel(run.detector, run.budget, line['float_epochs'],
                      line['extra_epochs'], run.amp)
        row = Row(run.ablation or run.method, bool(run.ablation), run.scope,
                  run.min_sparsity, run.lr)
        found.setdefault(panel, {}).setdefault(row, []).append(line)
    return found


def _order(line: Line) -> tuple:
    run = _run_of(line)
    return (list(DETECTORS).index(run.detector),
            list(BUDGETS).index(run.budget), run.amp, run.ablation
            != '', run.ablation or list(METHODS).index(run.method),
            run.min_sparsity, run.scope, run.lr, run.seed)


def _float_of(line: Line, lines: List[Line]) -> Optional[float]:
    """AP of the float run with the same detector, budget, seed and precision;
    where several learning rates were run, of the best on val."""
    twin = replace(
        _run_of(line), method='fp', scope='all', min_sparsity=0.0, ablation='')
    floats = [
        other for other in lines
        if 'error' not in other and replace(_run_of(other), lr=twin.lr) == twin
    ]
    if not floats:
        return None
    return max(floats, key=lambda other: other['val_AP'])['AP']


def _spread(values: List[float]) -> str:
    if not values:
        return '-'
    if len(values) == 1:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'


def markdown_table(lines: List[Line]) -> str:
    """One table a panel: mean and standard deviation over seeds, drop from
    float seed by seed; a failed run is a line with its error."""
    text = []
    for panel, rows in panels(lines).items():
        text += [
            f'**{panel.title}**', '',
            '| setting | seeds | AP | AP50 | AP75 | val AP | drop from float '
            '| zeros | bits/weight | cos(w, t) |',
            '|---|---|---|---|---|---|---|---|---|---|'
        ]
        for row, group in rows.items():
            text.append('| ' + ' | '.join(_cells(row, group, lines)) + ' |')
        text.append('')
    text += [
        f'Failed: {_run_of(line).name}, {line["error"]}' for line in lines
        if 'error' in line
    ]
    return '\n'.join(text).rstrip() + '\n'


def _cells(row: Row, group: List[Line], lines: List[Line]) -> List[str]:
    references = [(line, _float_of(line, lines)) for line in group]
    cells = [row.title, str(len(group))]
    cells += [
        _spread([line[key] for line in group])
        for key in ('AP', 'AP50', 'AP75', 'val_AP')
    ]
    cells.append(
        _spread([
            reference - line['AP'] for line, reference in references
            if reference is not None
        ]))
    if 'zeros' not in group[0]:
        return cells + ['-', '32', '-']

    def average(key: str) -> float:
        return mean(line[key] for line in group)

    return cells + [
        f'{average("zeros"):.1%}', f'{average("bits_per_weight"):.2f}',
        f'{average("cosine"):.3f}'
    ]


def draw(lines: List[Line], path: str) -> None:
    """AP of every setting as points over seeds, one plot a panel; a panel of
    a single setting compares nothing and is left to the table."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    found = panels(lines)
    found = {k: v for k, v in found.items() if len(v) > 1} or found
    heights = [1.5 + len(rows) for rows in found.values()]
    figure, axes = plt.subplots(
        len(found),
        figsize=(8, 0.27 * sum(heights)),
        height_ratios=heights,
        layout='constrained',
        squeeze=False)
    for axis, (panel, rows) in zip(axes.flat, found.items()):
        ordered = sorted(
            rows.items(), key=lambda item: mean(x['AP'] for x in item[1]))
        for y, (row, group) in enumerate(ordered):
            values = [x['AP'] for x in group]
            color = (
                ABLATION_COLOR if row.is_ablation else COLORS.get(
                    row.setting, 'tab:blue'))
            axis.plot(values, [y] * len(values), 'o', color=color, alpha=0.6)
            axis.plot(mean(values), y, '|', color=color, ms=12, mew=2)
        axis.set_yticks(range(len(ordered)), [row.title for row, _ in ordered])
        axis.set_title(
            f'{panel.title}: test AP (%)',
            loc='right',
            fontsize=10,
            weight='bold')
        axis.set_ylim(-0.7, len(rows) - 0.3)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
