"""Curves over training: losses, statistics, average precision."""
import re
from itertools import cycle
from typing import Dict, List, Optional, Sequence, Tuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .theme import APPROACH, DASHES, FLOAT, MUTED, PARTS, TERNARY, line, style
from .work_dir import Rows, WorkDir, without_repeats

# Steps and values.
Curve = Tuple[List[float], List[float]]
# Title and format of values.
STATISTICS = {
    'cosine': ('Mean cos(w, t)', '.3~f'),
    'zeros': ('Zeros', '.1~%'),
    'flips': ('Flips since the last measurement', '.2~%'),
    'distance': ('Mean distance | |w| / δ - 1 |', '.2~f'),
    'gradient': ('Gradient norm, loss per unit of weight', '.2~g'),
}


def series(rows: Rows, key: str) -> Tuple[List[float], List[float]]:
    """Return the steps and the values of one scalar."""
    rows = [row for row in rows if key in row]
    return [row['step'] for row in rows], [row[key] for row in rows]


def losses_by_kind(rows: Rows) -> Dict[str, Curve]:
    """Return the curve of each kind of loss of the detector; those of several
    stages or decoder layers (``d0.loss_cls``, ``d1.loss_cls``) are summed."""
    kinds: Dict[str, List[str]] = {}
    for key in sorted({k for row in rows for k in row if 'loss' in k}):
        if key not in ('loss', 'loss_ternary'):
            kinds.setdefault(key.rpartition('.')[2], []).append(key)
    curves = {}
    for kind, keys in kinds.items():
        name = kind if len(keys) == 1 else f'{kind}, sum of {len(keys)}'
        logged = [row for row in rows if keys[0] in row]
        curves[name] = ([row['step'] for row in logged],
                        [sum(row.get(k, 0) for k in keys) for row in logged])
    return curves


def loss_figure(run: WorkDir, switches: Sequence[int],
                twin: Optional[WorkDir]) -> Optional[go.Figure]:
    """Draw the detector's losses and the last losses of the float twin; None
    without losses."""
    if not any('loss' in row for row in run.train):
        return None
    figure = go.Figure(line(*series(run.train, 'loss'), 'total', TERNARY))
    end = series(twin.train, 'loss')[1][-1:] if twin is not None else []
    if end:
        # Not its curve: from scratch it starts high and squeezes the rest.
        _reference(figure, series(run.train, 'loss')[0], end[0], '.2f')
    looks = zip(cycle(PARTS[1:]), cycle(DASHES[2:]))
    for (name, curve), (color,
                        dash) in zip(losses_by_kind(run.train).items(), looks):
        figure.add_trace(line(*curve, name, color, width=1.3, dash=dash))
    figure.update_yaxes(title_text='loss', rangemode='tozero')
    figure.update_xaxes(title_text='iteration', rangemode='tozero')
    return mark(style(figure), switches)


def regularizer_figure(run: WorkDir,
                       switches: Sequence[int]) -> Optional[go.Figure]:
    """Draw the regularizer's loss and strength; None if it was never on."""
    steps, values = series(run.train, 'loss_ternary')
    if not any(values):
        return None
    figure = make_subplots(specs=[[dict(secondary_y=True)]])
    figure.add_trace(line(steps, values, 'loss', TERNARY))
    strength = series(run.train, 'ternary/lambda')
    if strength[1]:
        figure.add_trace(
            line(*strength, 'lambda (right)', MUTED, dash='dash', width=1.5),
            secondary_y=True)
    style(figure, 260, 'Regularizer')
    figure.update_layout(margin=dict(r=58))
    figure.update_yaxes(rangemode='tozero')
    figure.update_yaxes(
        secondary_y=True,
        showgrid=False,
        nticks=4,
        tickmode='auto',
        tickformat='.1~g')
    figure.update_xaxes(
        title_text='iteration', range=[0, max(r['step'] for r in run.train)])
    return mark(figure, switches, label=False)


def rate_figure(run: WorkDir) -> Optional[go.Figure]:
    """Draw the learning rate; None if it was not logged."""
    steps, values = series(run.train, 'lr')
    if not steps:
        return None
    figure = go.Figure(line(steps, values, 'learning rate', TERNARY))
    style(figure, 260, 'Learning rate')
    figure.update_yaxes(rangemode='tozero', tickformat='.2~g')
    figure.update_xaxes(title_text='iteration', rangemode='tozero')
    return figure


def temperature_figure(run: WorkDir,
                       switches: Sequence[int]) -> Optional[go.Figure]:
    """Draw the temperature of the gradient factor; None if it was not
    logged."""
    steps, values = series(without_repeats(run.train), 'ternary/temperature')
    if not steps:
        return None
    figure = go.Figure(line(steps, values, 'temperature', TERNARY))
    style(figure, 260, 'Temperature of the gradient factor')
    figure.update_yaxes(rangemode='tozero')
    figure.update_xaxes(title_text='iteration', rangemode='tozero')
    return mark(figure, switches, label=False)


def logged_parts(run: WorkDir) -> Dict[str, str]:
    """Return the parts of the detector with logged statistics, and their
    colours."""
    keys = dict.fromkeys(key for row in run.train for key in row)
    matches = (re.fullmatch('ternary/(.+)_cosine', key) for key in keys)
    return dict(zip((m[1] for m in matches if m), cycle(PARTS)))


def statistics_figures(run: WorkDir, parts: Dict[str, str],
                       switches: Sequence[int]) -> Dict[str, go.Figure]:
    """Draw one figure for each of ``STATISTICS`` that was logged; arguments as
    in :func:`logged_parts`."""
    figures = {}
    rows = without_repeats(run.train)
    for what, (title, form) in STATISTICS.items():
        logged = {
            part: series(rows, f'ternary/{part}_{what}')
            for part in parts
        }
        if not any(steps for steps, _ in logged.values()):
            continue
        figure = go.Figure([
            line(*logged[part], part, color, dash=dash)
            for (part, color), dash in zip(parts.items(), cycle(DASHES))
        ])
        style(figure, 280, title)
        figure.update_layout(showlegend=False, margin=dict(t=36))
        figure.update_yaxes(tickformat=form)
        figure.update_xaxes(
            title_text='iteration', nticks=5, rangemode='tozero')
        figures[what] = mark(figure, switches, label=False)
    return figures


def precision_figure(curves: Dict[str, Curve], metric: str,
                     offset: float) -> Optional[go.Figure]:
    """Draw the validation AP over all epochs of each detector's training; None
    if there are too few values for a curve.

    Args:
        curves (dict): Epochs and values in percent of 'float' and 'ternary'.
        metric (str): Its name.
        offset (float): Epochs of float training in the checkpoint that the
            ternary training started from.
    """
    if max((len(steps) for steps, _ in curves.values()), default=0) < 3:
        return None
    figure = go.Figure()
    for name, (steps, values) in curves.items():
        if values:
            figure.add_trace(_precision_line(steps, values, name))
    figure.update_yaxes(title_text='AP, %', rangemode='tozero')
    figure.update_xaxes(
        title_text='epoch, float training included'
        if offset else 'epoch of its own training',
        rangemode='tozero')
    style(figure, 300, f'{metric} in validation')
    figure.update_layout(margin=dict(t=70), showlegend=True)
    if offset:
        figure.add_vline(
            x=offset,
            line=dict(color=MUTED, width=1.2, dash='dot'),
            annotation_text='ternary starts here ',
            annotation_font=dict(size=12, color=MUTED),
            annotation_position='bottom left')
    return figure


def _precision_line(steps: list, values: list, name: str) -> go.Scatter:
    ternary = name == 'ternary'
    return line(
        steps,
        values,
        name,
        TERNARY if ternary else FLOAT,
        dash='solid' if ternary else 'dash',
        mode='lines+markers',
        marker=dict(size=8, symbol='circle' if ternary else 'square'),
        hovertemplate='%{y:.1f}')


def _reference(figure: go.Figure, x: Sequence[float], value: float,
               form: str) -> None:
    """Draw the last value of the float twin as a horizontal line."""
    figure.add_trace(
        line([min(x), max(x)], [value] * 2,
             f'float at its end: {value:{form}}',
             FLOAT,
             dash='dash',
             width=1.2,
             hoverinfo='skip'))


def mark(figure: go.Figure,
         switches: Sequence[float],
         label: bool = True) -> go.Figure:
    """Shade the approach phase and mark the switch."""
    if switches:
        figure.add_vrect(
            x0=0,
            x1=switches[0],
            fillcolor=APPROACH,
            opacity=0.13,
            line_width=0,
            layer='below')
    for index, switch in enumerate(switches):
        note = dict(
            annotation_text='approach ',
            annotation_font=dict(size=12, color=MUTED),
            annotation_position='bottom left') if label and not index else {}
        figure.add_vline(
            x=switch, line=dict(color=MUTED, width=1.2, dash='dash'), **note)
    return figure
