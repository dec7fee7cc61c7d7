"""Curves over training: losses, statistics, average precision."""
from typing import Dict, List, Optional, Sequence, Tuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .theme import APPROACH, FLOAT, MUTED, PARTS, TERNARY, line, style
from .work_dir import Rows, WorkDir

STATISTICS = {
    'cosine': 'mean cos(w, t)',
    'zeros': 'share of zeros',
    'flips': 'share of flips',
}


def series(rows: Rows, key: str) -> Tuple[List[float], List[float]]:
    """Steps and values of one scalar."""
    rows = [row for row in rows if key in row]
    return [row['step'] for row in rows], [row[key] for row in rows]


def loss_figure(run: WorkDir, switches: Sequence[int],
                twin: Optional[WorkDir]) -> Optional[go.Figure]:
    """Detector losses, and where the float twin's ended; None without
    losses."""
    keys = sorted({
        k
        for row in run.train
        for k in row if 'loss' in k and k not in ('loss', 'loss_ternary')
    })
    if not any('loss' in row for row in run.train):
        return None
    figure = go.Figure(line(*series(run.train, 'loss'), 'total', TERNARY))
    end = series(twin.train, 'loss')[1][-1:] if twin is not None else []
    if end:
        # Not its curve: from scratch it starts high and squeezes the rest.
        _reference(figure, end[0], f'float at its end: {end[0]:.2f}')
    for key, color in zip(keys, PARTS):
        figure.add_trace(
            line(*series(run.train, key), key, color, width=1.3, dash='dot'))
    figure.update_yaxes(title_text='loss', rangemode='tozero')
    figure.update_xaxes(title_text='iteration')
    return mark(style(figure), switches)


def regularizer_figure(run: WorkDir,
                       switches: Sequence[int]) -> Optional[go.Figure]:
    """The regularizer's loss and strength; None if it was never on."""
    rows = [
        # The log repeats the last value once the regularizer is off.
        dict(row, loss_ternary=0.0) if row.get('ternary/lambda') == 0 else row
        for row in run.train
    ]
    steps, values = series(rows, 'loss_ternary')
    if not any(values):
        return None
    figure = make_subplots(specs=[[dict(secondary_y=True)]])
    figure.add_trace(line(steps, values, 'loss_ternary', TERNARY))
    strength = series(run.train, 'ternary/lambda')
    if strength[1]:
        figure.add_trace(
            line(*strength, 'lambda (right)', MUTED, dash='dash', width=1.5),
            secondary_y=True)
    style(figure, 300)
    figure.update_layout(margin=dict(r=70))
    figure.update_yaxes(title_text='loss', rangemode='tozero')
    figure.update_yaxes(
        title_text='lambda',
        secondary_y=True,
        showgrid=False,
        tickmode='auto',
        tickformat='.1e')
    figure.update_xaxes(
        title_text='iteration', range=[0, max(r['step'] for r in run.train)])
    return mark(figure, switches, label=False)


def statistics_figure(run: WorkDir,
                      switches: Sequence[int]) -> Optional[go.Figure]:
    """Cosine, zeros and flips of each part; None if not logged."""
    parts: Dict[str, str] = {}
    for row in run.train:
        for key in row:
            if key.startswith('ternary/') and key.endswith('_cosine'):
                parts.setdefault(key[len('ternary/'):-len('_cosine')], '')
    if not parts:
        return None
    figure = make_subplots(
        rows=1,
        cols=3,
        subplot_titles=list(STATISTICS.values()),
        horizontal_spacing=0.07)
    for column, what in enumerate(STATISTICS, start=1):
        for part, color in zip(parts, PARTS):
            curve = line(
                *series(run.train, f'ternary/{part}_{what}'),
                part,
                color,
                legendgroup=part,
                showlegend=column == 1)
            figure.add_trace(curve, row=1, col=column)
    style(figure, 360)
    figure.update_layout(
        margin=dict(t=44, b=96),
        legend=dict(y=-0.32, yanchor='top', x=0.5, xanchor='center'))
    figure.update_yaxes(tickformat='.0%', col=2)
    figure.update_yaxes(tickformat='.1%', rangemode='tozero', col=3)
    figure.update_xaxes(title_text='iteration')
    return mark(figure, switches, label=False)


def precision_figure(run: WorkDir,
                     twin: Optional[WorkDir]) -> Optional[go.Figure]:
    """Validation AP of the run and its float twin; None if neither has
    any."""
    figure = go.Figure()
    runs = [('ternary', run, TERNARY)]
    if twin is not None:
        runs.insert(0, ('float', twin, FLOAT))
    for name, source, color in runs:
        metric, steps, values = source.average_precision()
        if values:
            figure.add_trace(
                line(
                    steps,
                    values,
                    name,
                    color,
                    mode='lines+markers',
                    marker=dict(size=8),
                    hovertemplate='%{y:.1f}'))
            if name == 'float':
                _reference(figure, values[-1],
                           f'float at its end: {values[-1]:.1f}')
            figure.update_yaxes(title_text=f'{metric} in percent')
    if not figure.data:
        return None
    figure.update_yaxes(rangemode='tozero')
    figure.update_xaxes(
        title_text='epoch of its own training', rangemode='tozero')
    return style(figure)


def _reference(figure: go.Figure, value: float, text: str) -> None:
    """A level to compare with."""
    figure.add_hline(
        y=value,
        line=dict(color=FLOAT, width=1, dash='dash'),
        annotation=dict(text=text, font=dict(color=FLOAT, size=12)),
        annotation_position='top left')


def mark(figure: go.Figure,
         switches: Sequence[int],
         label: bool = True) -> go.Figure:
    """Shade the approach phase and mark the switch in every subplot."""
    if switches:
        figure.add_vrect(
            x0=0,
            x1=switches[0],
            fillcolor=APPROACH,
            opacity=0.10,
            line_width=0,
            layer='below')
    for switch in switches:
        note = dict(
            annotation_text=' ternary from here',
            annotation_font=dict(size=12, color=MUTED),
            annotation_position='top right') if label else {}
        figure.add_vline(
            x=switch, line=dict(color=MUTED, width=1.2, dash='dash'), **note)
    return figure
