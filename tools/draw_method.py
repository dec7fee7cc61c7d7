"""Draw how the method works."""
import argparse

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from method.panels import (draw_approach, draw_filter, draw_gradient,
                           draw_schedule, draw_search)
from theme import STYLE


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'out', nargs='?', default='tools/results/method.png', help='PNG file')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    generator = torch.Generator().manual_seed(4)
    row = torch.randn(1, 36, generator=generator)
    with rc_context(STYLE):
        figure = Figure(
            figsize=(9.6, 5.6), layout='constrained', facecolor='white')
        grid = figure.add_gridspec(2, 3, height_ratios=[1, 1])
        draw_filter(figure.add_subplot(grid[0, :2]), row)
        draw_search(figure.add_subplot(grid[0, 2]), row)
        draw_approach(figure.add_subplot(grid[1, 0]))
        draw_gradient(figure.add_subplot(grid[1, 1]))
        draw_schedule(figure.add_subplot(grid[1, 2]))
        figure.get_layout_engine().set(w_pad=.08, h_pad=.1, wspace=.05)
        figure.savefig(args.out, dpi=190)


if __name__ == '__main__':
    main()
