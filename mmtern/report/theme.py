"""Colours and layout that all figures share."""
import plotly.graph_objects as go

INK, MUTED, GRID = '#1f2933', '#6b7785', '#e6eaef'
FLOAT, TERNARY = '#5b7089', '#d9541e'
APPROACH = '#e8b04b'
STAGES = {
    'at the start': '#9fb3c8',
    'before the switch': APPROACH,
    'at the end': TERNARY,
}
PARTS = ('#2b6cb0', '#2f9e77', '#8e5bb5', '#c2417c', '#7a6a4f', '#3a8fa3')
CLASSES = ('#ff5a5f', '#00a8e8', '#8ac926', '#ffca3a', '#b388eb', '#ff924c')
FONT = ('Inter, "Helvetica Neue", "Segoe UI", Roboto, "DejaVu Sans", Arial, '
        'sans-serif')


def style(figure: go.Figure, height: int = 340, title: str = '') -> go.Figure:
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
        margin=dict(l=56, r=16, t=58 if title else 36, b=46),
        font=dict(family=FONT, size=13, color=INK),
        paper_bgcolor='rgba(0,0,0,0)',
        plot_bgcolor='rgba(0,0,0,0)',
        hovermode='x unified',
        hoverlabel=dict(bgcolor='white', bordercolor=GRID),
        legend=dict(
            orientation='h', x=0, xanchor='left', y=1.02, yanchor='bottom'))
    for note in figure.layout.annotations:
        if note.font.color is None:  # a subplot's title
            note.font = dict(size=14, color=INK)
    axis = dict(
        gridcolor=GRID,
        linecolor='#c3ccd6',
        zeroline=False,
        title_font=dict(color=MUTED, size=13),
        ticks='outside',
        tickcolor='#c3ccd6',
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
