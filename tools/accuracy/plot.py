"""The accuracy benchmark's plot: a column a detector, a panel a budget."""
from itertools import groupby
from statistics import mean
from typing import Callable, Dict, List, Optional, Tuple

from .plan import DETECTORS
from .results import Line, Panel, Row, by_seed, panels

COLORS = {'fp': 'tab:gray', 'mmtern': 'tab:red', 'mmtern-0.1': 'tab:brown'}
ABLATION_COLOR = 'tab:orange'
# A panel's title and margins, in rows.
TITLE = 1.5
# Inches: a row's height, an axis' width, a letter of a row's title.
ROW, AXIS, LETTER = 0.25, 4.0, 0.078

# Of each seed.
Rows = Dict[Row, List[float]]
Column = List[Tuple[Panel, Rows]]


def draw(lines: List[Line],
         path: str,
         label: str,
         value: Callable[[Line], Optional[float]],
         differences: bool = False) -> None:
    """``value`` of every setting as points over seeds, means as bars.

    All panels of a detector share one scale, so that a difference looks as
    large as it is. A setting without a value is left to the table. Where no
    value is left, nothing is drawn.

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
        points = {row: by_seed(group, value) for row, group in rows.items()}
        points = {row: x for row, x in points.items() if x}
        if points:
            found[panel] = points
    if not found:
        return
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    if not differences:
        found = {k: v for k, v in found.items() if len(v) > 1} or found
    columns = [
        list(column) for _, column in groupby(
            found.items(), key=lambda item: item[0].detector)
    ]
    height = max(sum(_height(rows) for _, rows in x) for x in columns)
    widths = [
        AXIS + LETTER * max(len(row.title) for _, rows in x for row in rows)
        for x in columns
    ]
    figure = plt.figure(
        figsize=(sum(widths), ROW * (height + TITLE)), layout='constrained')
    parts = figure.subfigures(
        1, len(columns), squeeze=False, width_ratios=widths)[0]
    for part, column in zip(parts, columns):
        _draw_column(part, column, height, differences)
        name = DETECTORS[column[0][0].detector]
        part.suptitle(f'{name}: {label}', weight='bold')
    figure.savefig(path, dpi=100)
    plt.close(figure)


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
            axis.axvline(0, color=COLORS['mmtern'])
        _draw_panel(axis, panel, rows)
    for axis in axes[len(ratios):]:
        axis.set_visible(False)
    axes[len(ratios) - 1].tick_params(labelbottom=True)


def _draw_panel(axis, panel: Panel, rows: Rows) -> None:
    ordered = sorted(rows, key=lambda row: mean(rows[row]))
    for y, row in enumerate(ordered):
        values = rows[row]
        color = (
            ABLATION_COLOR if row.ablation else COLORS.get(
                row.method, 'tab:blue'))
        axis.plot(values, [y] * len(values), 'o', color=color, alpha=0.6)
        axis.plot(mean(values), y, '|', color=color, ms=12, mew=2)
    axis.set_yticks(range(len(ordered)), [row.title for row in ordered])
    axis.set_ylim(-0.7, len(ordered) - 0.3)
    axis.set_title(panel.conditions, loc='left', fontsize=10)
    axis.grid(alpha=0.3)


def _height(rows: Rows) -> float:
    return TITLE + len(rows)
