"""Colours and style that the pictures of README and docs share."""

INK, MUTED, GRID, EDGE = '#1f2933', '#6b7785', '#e6eaef', '#c3ccd6'
# Told apart with any colour vision, and in grey.
FLOAT, TERNARY, APPROACH, PALE = '#5b7089', '#d9541e', '#e8b04b', '#9fb3c8'
DARK_APPROACH = '#b37a10'  # for text

STYLE = {
    'font.size': 10,
    'axes.titlesize': 10.5,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.titlepad': 9,
    'axes.labelcolor': MUTED,
    'axes.edgecolor': EDGE,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'text.color': INK,
    'xtick.color': MUTED,
    'ytick.color': MUTED,
    'grid.color': GRID,
    'legend.frameon': False,
    'mathtext.fontset': 'dejavuserif',
}
