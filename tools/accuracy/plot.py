"""The accuracy benchmark's plot: a column a detector, a panel a budget."""
from itertools import groupby
from statistics import mean
from typing import Callable, Dict, List, Optional, Tuple

from matplotlib import rc_context
from matplotlib.figure import Figure
from theme import DARK_APPROACH, FLOAT, MUTED, PALE, STYLE, TERNARY

from .methods import NAMES
from .plan import TITLES
from .results import Line, Panel, Row, best_rates, by_seed, panels

COLORS = {'fp': FLOAT, 'mmtern': TERNARY, 'mmtern-0.1': DARK_APPROACH}
# A panel's title and margins, in rows.
TITLE = 2.0
# Inches: a row's height, an axis' width, a letter of a row's title.
ROW, AXIS, LETTER = 0.27, 3.6, 0.088

# Of each seed.
Rows = Dict[Row, List[float]]
Column = List[Tuple[Panel, Rows]]


def draw(lines: List[Line],
         path: str,
         label: str,
         value: Callable[[Line], Optional[float]],
         differences: bool = False) -> None:
    """``value`` of every setting as points over seeds, means as bars; of
    several learning rates, the best on val.

    All panels of a detector share one scale, so that a difference looks as
    large as it is. A setting without a value is left to the table, and so
    are other rates. Where no value is left, nothing is drawn.

    Args:
        lines (list[dict]): Result lines; failed ones are left out.
        path (str): Of the picture.
        label (str): What the values are.
        value (Callable): From a line to a number, or None.
        differences (bool): Whether the values are differences from a
            setting that is not among ``lines``; a line at zero stands for
            it. Otherwise a panel of a single setting compares nothing, and
            is left to the table, too. Defaults to False.
    """
    found: Dict[Panel, Rows] = {}
    for panel, rows in panels(lines).items():
        valued = {
            row: group
            for row, group in rows.items() if by_seed(group, value)
        }
        points = {
            row: by_seed(group, value)
            for row, group in best_rates(valued).items()
        }
        if points:
            found[panel] = points
    if not found:
        return
    if not differences:
        found = {k: v for k, v in found.items() if len(v) > 1} or found
    columns = [
        list(column) for _, column in groupby(
            found.items(), key=lambda item: item[0].detector)
    ]
    height = max(sum(_height(rows) for _, rows in x) for x in columns)
    widths = [
        AXIS + LETTER * max(len(_label(row)) for _, rows in x for row in rows)
        for x in columns
    ]
    with rc_context(STYLE):
        figure = Figure((sum(widths), ROW * (height + TITLE)),
                        layout='constrained',
                        facecolor='white')
        parts = figure.subfigures(
            1, len(columns), squeeze=False, width_ratios=widths)[0]
        for part, column in zip(parts, columns):
            _draw_column(part, column, height, differences)
            name = TITLES[column[0][0].detector]
            part.suptitle(f'{name}: {label}', weight='bold')
        figure.savefig(path, dpi=130)


def _draw_column(part, column: Column, height: float,
                 differences: bool) -> None:
    """The panels of a detector, ``height`` rows high; where they have fewer,
    the rest stays empty."""
    ratios = [_height(rows) for _, rows in column]
    rest = height - sum(ratios)
    axes = part.subplots(
        len(ratios) + (rest > 0),
        height_ratios=ratios + [rest] * (rest > 0),
        sharex=True,
        squeeze=False)[:, 0]
    for axis, (panel, rows) in zip(axes, column):
        if differences:
            axis.axvline(0, color=TERNARY)
        _draw_panel(axis, panel, rows)
    for axis in axes[len(ratios):]:
        axis.set_visible(False)
    axes[len(ratios) - 1].tick_params(labelbottom=True)


def _draw_panel(axis, panel: Panel, rows: Rows) -> None:
    ordered = sorted(rows, key=lambda row: mean(rows[row]))
    for y, row in enumerate(ordered):
        values = rows[row]
        color = COLORS.get(row.method, PALE)
        axis.plot(
            values, [y] * len(values), 'o', color=color, alpha=0.6, mew=0)
        axis.plot(mean(values), y, '|', color=color, ms=13, mew=2.5)
    axis.set_yticks(range(len(ordered)), [_label(row) for row in ordered])
    axis.set_ylim(-0.7, len(ordered) - 0.3)
    axis.set_title(_conditions(panel, rows), weight='normal', color=MUTED)
    axis.tick_params(axis='y', length=0)
    axis.grid(axis='x')
    axis.set_axisbelow(True)


def _label(row: Row) -> str:
    """What tells a row from others; a change names its method in the title."""
    return row.name.partition(', ')[2] if row.ablation else row.name


def _conditions(panel: Panel, rows: Rows) -> str:
    text = f'{panel.extra_epochs} epochs'
    if panel.float_epochs:
        text = f'{panel.float_epochs} float + {text}'
    if panel.min_sparsity:
        text += f', {panel.min_sparsity:.0%} zeros'
    changed = {NAMES.get(x.method, x.method) for x in rows if x.ablation}
    return f'{text}: {" and ".join(changed)} with ...' if changed else text


def _height(rows: Rows) -> float:
    return TITLE + len(rows)
