"""Colours and layout that all figures share.

Colours are Okabe and Ito's, which people with any colour vision tell apart
(https://jfly.uni-koeln.de/color/); lines also differ by dashes.
"""
import plotly.graph_objects as go

INK, MUTED, GRID = '#1f2933', '#5b6672', '#e1e6ec'
BLUE, SKY, VERMILION = '#0072b2', '#56b4e9', '#d55e00'
ORANGE, GREEN, PURPLE, YELLOW = '#e69f00', '#009e73', '#cc79a7', '#f0e442'
# Of a full cell, under dark letters, or light ones on a dark page.
CELL = '#7cb9dd'
FLOAT, TERNARY = BLUE, VERMILION
APPROACH = ORANGE
STAGES = {
    'at the start': BLUE,
    'before the switch': GREEN,
    'at the end': VERMILION,
}
DASHES = ('solid', 'dash', 'dot', 'dashdot', 'longdash')
# Those first that have a contrast of 3 to white, which lines need.
PARTS = (BLUE, GREEN, PURPLE, INK, ORANGE, SKY)
CLASSES = (ORANGE, SKY, PURPLE, YELLOW, GREEN, VERMILION, BLUE)
# What stands for a colour of the figures on a dark page.
DARK = {
    INK: '#e6eaef',
    MUTED: '#a3afbc',
    GRID: '#333d48',
    BLUE: '#4aa3dd',
    VERMILION: '#f0803c',
    CELL: '#1d638f',
    '#ffffff': '#171c22',
}
FONT = ('Inter, "Helvetica Neue", "Segoe UI", Roboto, "DejaVu Sans", Arial, '
        'sans-serif')


def style(figure: go.Figure, height: int = 320, title: str = '') -> go.Figure:
    """Apply the page's look to a figure."""
    figure.update_layout(
        template='none',
        height=height,
        title=dict(
            text=title,
            x=0,
            xref='paper',
            y=1,
            yref='container',
            yanchor='top',
            pad=dict(t=6),
            font=dict(size=14)) if title else None,
        margin=dict(l=52, r=14, t=58 if title else 36, b=46),
        font=dict(family=FONT, size=13, color=INK),
        paper_bgcolor='rgba(0,0,0,0)',
        plot_bgcolor='rgba(0,0,0,0)',
        hovermode='x unified',
        hoverlabel=dict(bgcolor='#ffffff', bordercolor=GRID),
        legend=dict(
            orientation='h', x=0, xanchor='left', y=1.02, yanchor='bottom'))
    for note in figure.layout.annotations:
        if note.font.color is None:  # a subplot's title
            note.font = dict(size=14, color=INK)
    axis = dict(
        gridcolor=GRID,
        linecolor=MUTED,
        zeroline=False,
        title_font=dict(color=MUTED, size=13),
        ticks='outside',
        tickcolor=MUTED,
        tickfont=dict(color=MUTED, size=12))
    figure.update_xaxes(showgrid=False, showline=True, **axis)
    figure.update_yaxes(showline=False, **axis)
    return figure


def line(x: list, y: list, name: str, color: str, **more) -> go.Scatter:
    """A curve."""
    dash = more.pop('dash', 'solid')
    return go.Scatter(
        x=x,
        y=y,
        name=name,
        mode=more.pop('mode', 'lines'),
        line=dict(color=color, width=more.pop('width', 2), dash=dash),
        **more)
