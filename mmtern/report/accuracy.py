"""Figures of the detectors' accuracy on the test set: AP by class, precision
over recall, confusions."""
from typing import List

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..analysis.evaluation import IOU, RECALLS, SCORE, Findings
from .theme import CELL, FLOAT, INK, TERNARY, line, style

COLORS = dict(float=FLOAT, ternary=TERNARY)
PATTERNS = dict(float='/', ternary='')
# Numbers in the cells of a matrix are readable up to here.
MOST_NUMBERS = 12


def class_figure(findings: List[Findings], classes: List[str]) -> go.Figure:
    """Draw the AP of each class, best class first, one bar for each
    detector."""
    last = np.nan_to_num(findings[-1].accuracy.classes)
    order = np.argsort(last)[::-1]
    figure = go.Figure()
    for one in findings:
        values = np.array(one.accuracy.classes)[order]
        figure.add_trace(
            go.Bar(
                x=[classes[i] for i in order],
                y=values.round(1).tolist(),
                name=one.name,
                marker=dict(
                    color=COLORS[one.name],
                    pattern=dict(
                        shape=PATTERNS[one.name],
                        fillmode='overlay',
                        fgcolor='rgba(255,255,255,.55)',
                        size=6)),
                text=[f'{value:.0f}' for value in values]
                if len(classes) <= MOST_NUMBERS else None,
                textposition='outside',
                cliponaxis=False,
                hovertemplate='%{y:.1f}'))
    style(figure, 300, 'AP of each class')
    figure.update_layout(
        barmode='group', bargap=0.3, margin=dict(t=70), showlegend=True)
    highest = max(
        np.nan_to_num(one.accuracy.classes).max() for one in findings)
    figure.update_yaxes(title_text='AP, %', range=[0, 1.15 * highest + 1])
    return figure


def recall_figure(findings: List[Findings]) -> go.Figure:
    """Draw precision over recall at an overlap of 0.5, averaged over
    classes."""
    figure = go.Figure([
        line(
            RECALLS.round(2).tolist(),
            one.accuracy.precision.round(3).tolist(),
            f'{one.name}, AP50 {one.accuracy.ap50:.1f}',
            COLORS[one.name],
            dash='dash' if one.name == 'float' else 'solid',
            hovertemplate='%{y:.2f}') for one in findings
    ])
    style(figure, 300, f'Precision over recall, overlap {IOU}')
    figure.update_layout(margin=dict(t=70))
    figure.update_yaxes(title_text='precision', range=[0, 1.03])
    figure.update_xaxes(title_text='recall', range=[0, 1])
    return figure


def confusion_figure(findings: List[Findings],
                     classes: List[str]) -> go.Figure:
    """Draw the shares of each class's objects by the class of the matching
    detection, one matrix for each detector."""
    figure = make_subplots(
        rows=1,
        cols=len(findings),
        subplot_titles=[one.name for one in findings],
        shared_yaxes=True,
        horizontal_spacing=0.04)
    numbers = len(classes) <= MOST_NUMBERS
    for column, one in enumerate(findings, start=1):
        matrix = one.accuracy.confusion
        rows = matrix.sum(1, keepdims=True)
        share = matrix / np.maximum(rows, 1)
        figure.add_trace(
            go.Heatmap(
                x=[*classes, 'missed'],
                y=[*classes, 'no object'],
                z=share.round(3).tolist(),
                text=[[str(n) if n else '' for n in row] for row in matrix],
                texttemplate='%{text}' if numbers else None,
                zmin=0,
                zmax=1,
                colorscale=[[0, 'rgba(0,114,178,.06)'], [1, CELL]],
                textfont=dict(color=INK),
                showscale=False,
                xgap=1,
                ygap=1,
                hovertemplate='%{y} found as %{x}: %{text} (%{z:.0%} of the '
                f'row)<extra>{one.name}</extra>'),
            row=1,
            col=column)
    high = 300 if len(classes) <= 8 else min(160 + 16 * len(classes), 900)
    style(figure, high, 'Confusions, numbers of objects')
    figure.update_layout(
        margin=dict(l=80, t=70, b=60), hovermode='closest', showlegend=False)
    figure.update_yaxes(autorange='reversed', ticks='', showgrid=False)
    figure.update_xaxes(ticks='', showline=False, tickangle=-35)
    return figure


CONFUSION_TEXT = (f'Rows: what is there; columns: what was found (scored '
                  f'{SCORE} or more, overlap {IOU} or more).')
