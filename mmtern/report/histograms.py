"""Histograms of |w| / threshold for each layer and stage."""
from typing import Dict

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..analysis.measure import BINS, HIGHEST, LayerMeasure
from .theme import DASHES, GRID, INK, MUTED, STAGES, style

# Stage's name -> layer's name -> measure.
Stages = Dict[str, Dict[str, LayerMeasure]]
EDGES = np.linspace(0, HIGHEST, BINS + 1)
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2
# Not quite '#ffffff', which is the paper and turns dark on a dark page.
BORDER = dict(color='#fefefe', width=1, dash='dot')


def _density(measure: LayerMeasure) -> np.ndarray:
    # The last bin holds everything beyond; as a density it would mislead.
    return (np.array(measure.histogram) * BINS / HIGHEST)[:-1]


def overview_figure(stages: Stages) -> go.Figure:
    """Draw one heat map for each stage, with one row for each layer and the
    density as colour."""
    figure = make_subplots(
        rows=1,
        cols=len(stages),
        subplot_titles=list(stages),
        shared_yaxes=True,
        horizontal_spacing=0.02)
    names = list(next(reversed(stages.values())))[::-1]
    rows = {
        stage:
        [_density(m[n]) if n in m else CENTRES[:-1] * np.nan for n in names]
        for stage, m in stages.items()
    }
    highest = np.nanpercentile(np.concatenate(list(rows.values())), 99.5)
    for column, (stage, values) in enumerate(rows.items(), start=1):
        figure.add_trace(
            go.Heatmap(
                x=CENTRES[:-1].round(3).tolist(),
                y=names,
                z=[row.round(3).tolist() for row in values],
                zmin=0,
                zmax=round(float(highest), 2),
                colorscale='Cividis',
                showscale=column == len(stages),
                colorbar=dict(
                    title=dict(text='density', font=dict(size=12)),
                    thickness=12,
                    outlinewidth=0),
                hovertemplate='%{y}<br>|w|/δ %{x:.2f}<br>density %{z:.2f}'
                f'<extra>{stage}</extra>'),
            row=1,
            col=column)
    style(figure, max(340, 110 + 15 * len(names)))
    figure.update_layout(margin=dict(l=190, t=50), hovermode='closest')
    figure.add_vline(x=1, line=BORDER)
    figure.update_xaxes(title_text='|w| / δ', range=[0, 3.5])
    figure.update_yaxes(tickfont=dict(size=10), ticks='', showgrid=False)
    return figure


def detail_figure(stages: Stages) -> go.Figure:
    """Draw the histograms of all stages for one layer, which is chosen from a
    list."""
    names = list(next(reversed(stages.values())))
    figure = go.Figure()
    shown = []
    for name in [None] + names:
        for stage, measures in stages.items():
            chosen = [m for n, m in measures.items() if name in (None, n)]
            if not chosen:
                continue
            density = np.average([_density(m) for m in chosen],
                                 axis=0,
                                 weights=[m.weights for m in chosen])
            figure.add_trace(
                go.Scatter(
                    x=CENTRES[:-1].round(3).tolist(),
                    y=density.round(4).tolist(),
                    name=stage,
                    visible=name is None,
                    line=dict(
                        color=STAGES[stage],
                        width=2,
                        shape='hvh',
                        dash=DASHES[list(STAGES).index(stage)]),
                    hovertemplate='%{y:.2f}'))
            shown.append(name)
    buttons = [
        dict(
            label=name or 'all layers',
            method='restyle',
            args=[dict(visible=[owner == name for owner in shown])])
        for name in [None] + names
    ]
    style(figure, 420)
    figure.update_layout(
        margin=dict(t=64, b=100),
        # Below, where several rows of it on a narrow page have room.
        legend=dict(y=-0.24, yanchor='top'),
        updatemenus=[
            dict(
                buttons=buttons,
                x=0,
                xanchor='left',
                y=1.26,
                yanchor='top',
                bgcolor='#ffffff',
                bordercolor=GRID)
        ])
    figure.add_vline(
        x=1,
        line=dict(BORDER, color=INK),
        annotation=dict(text=' ≥ 1: ±a', font=dict(size=12, color=MUTED)),
        annotation_position='top right')
    figure.add_annotation(
        x=1,
        y=1,
        yref='paper',
        text='zero: < 1 ',
        showarrow=False,
        xanchor='right',
        yanchor='top',
        font=dict(size=12, color=MUTED))
    figure.update_xaxes(title_text='|w| / δ', range=[0, HIGHEST])
    figure.update_yaxes(title_text='density', rangemode='tozero')
    return figure
