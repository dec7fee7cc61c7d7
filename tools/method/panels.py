"""The panels of the method's figure, computed with the package's own
functions."""
from types import SimpleNamespace

import torch
from matplotlib.axes import Axes
from mmengine.config import Config
from mmengine.registry import HOOKS
from theme import (APPROACH, DARK_APPROACH, FLOAT, GRID, INK, MUTED, PALE,
                   TERNARY)
from torch import Tensor

from mmtern.engine.hooks.schedule import to_iterations, train_progress
from mmtern.ops import (exact_threshold, mean_threshold, project,
                        rescale_factor, ternary_codes)

CONFIG = 'configs/tern_retinanet_r18-lite_shapes.py'
# Colour of each temperature's curve, and where its name stands.
TEMPERATURES = {
    0: ('#7b8fa6', (2.65, 1.03)),
    1: (DARK_APPROACH, (2.2, 0.85)),
    4: (TERNARY, (1.85, 0.5)),
    8: ('#8c2f0b', (1.0, 0.36)),
}


def draw_filter(axis: Axes, row: Tensor) -> None:
    """Weights of one filter, its threshold and the ternary filter."""
    threshold = mean_threshold(row)
    codes = ternary_codes(row, threshold)[0]
    delta = float(threshold)
    scale = float(project(row, threshold).scale('norm'))
    index = torch.arange(row.shape[1])
    axis.axhspan(-delta, delta, color=GRID, lw=0, zorder=0)
    colors = [TERNARY if code else PALE for code in codes.tolist()]
    axis.bar(index, row[0], 0.55, color=colors, zorder=2)
    axis.hlines(
        scale * codes, index - .44, index + .44, color=INK, lw=2.2, zorder=3)
    axis.set_xlim(-1, row.shape[1])
    axis.set_xticks([])
    axis.set_yticks([-scale, -delta, 0, delta, scale],
                    ['$-a$', r'$-\delta$', '0', r'$\delta$', '$a$'])
    axis.tick_params(axis='y', labelsize=11, labelcolor=INK, length=0)
    axis.spines['bottom'].set_visible(False)
    axis.set_xlabel(f'the {row.shape[1]} weights of one filter $w$ (bars)  '
                    r'and its ternary filter $a\,t$ (lines)')
    axis.set_title(r'Projection: below the threshold $\delta$ zero, above '
                   r'it $\pm a$')


def draw_search(axis: Axes, row: Tensor) -> None:
    """cos(w, t) against the number of weights kept; both rules marked."""
    magnitudes = row.abs().sort(descending=True).values
    counts = torch.arange(1, row.shape[1] + 1)
    cosines = [
        float(project(row, magnitude[None, None]).cosine())
        for magnitude in magnitudes[0]
    ]
    axis.plot(counts, cosines, color=FLOAT, lw=2)
    best = project(row, exact_threshold(row))
    axis.plot(best.count, best.cosine(), 'o', mfc='white', mec=FLOAT, mew=1.8)
    axis.annotate(
        "'exact'", (float(best.count), float(best.cosine())), (0, 9),
        textcoords='offset points',
        ha='center',
        color=FLOAT)
    used = project(row, mean_threshold(row))
    axis.plot(used.count, used.cosine(), 'o', color=TERNARY, ms=8)
    axis.annotate(
        r'$\delta = 0.7$ mean $|w|$',
        (float(used.count), float(used.cosine())), (-6, -36),
        textcoords='offset points',
        ha='center',
        weight='bold',
        color=TERNARY)
    axis.set_ylim(min(cosines) - .03, max(cosines) + .09)
    axis.set_xticks([1, 12, 24, 36])
    axis.set_xlabel('$k$, weights kept')
    axis.set_title(r'Direction: $\cos(w, t)$ by $k$')


def approach(rows: Tensor, beta: float) -> Tensor:
    """What a layer computes with in the approach phase: ``w + beta (a t -
    w)``."""
    threshold = mean_threshold(rows)
    ternary = ternary_codes(rows, threshold) * project(rows,
                                                       threshold).scale('norm')
    return torch.lerp(rows, ternary, beta)


def draw_approach(axis: Axes) -> None:
    """Weights over their scale, as a layer sees them before the approach
    phase and late in it."""
    rows = torch.randn(64, 288, generator=torch.Generator().manual_seed(0))
    for x, beta, color, ink in ((0.0, 0.0, '#b4c2d1', FLOAT),
                                (1.0, 0.75, APPROACH, DARK_APPROACH)):
        weight = approach(rows, beta)
        projection = project(weight, mean_threshold(weight))
        cosine = float(projection.cosine().mean())
        axis.hist(
            (weight / projection.scale('norm')).flatten(),
            bins=81,
            range=(-2, 2),
            density=True,
            alpha=0.75,
            color=color)
        axis.text(
            x,
            0.98,
            rf'$\beta = {beta:g}$' + '\n' + rf'$\cos = {cosine:.2f}$',
            transform=axis.transAxes,
            ha='right' if x else 'left',
            va='top',
            color=ink)
    axis.set_xlim(-2, 2)
    axis.set_xticks([-1, 0, 1], ['$-a$', '0', '$a$'])
    axis.set_yticks([])
    axis.spines['left'].set_visible(False)
    axis.set_xlabel('what 64 filters compute with')
    axis.set_title(r'Approach phase: $w + \beta (a\,t - w)$')


def draw_gradient(axis: Axes) -> None:
    """The gradient factor for several temperatures."""
    u = torch.linspace(0, 3, 301)[None]
    for temperature, (color, at) in TEMPERATURES.items():
        factor = rescale_factor(
            u, torch.ones(1, 1), temperature, floor=0.2, normalize=False)
        factor = torch.ones_like(u) if factor is None else factor
        axis.plot(u[0], factor[0], color=color, lw=2)
        axis.text(*at, f'$T={temperature}$', color=color, ha='center')
    axis.axhline(0.2, color=MUTED, lw=1, ls='--')
    axis.text(3, 0.18, 'floor', color=MUTED, va='top', ha='right')
    axis.set_xlim(0, 3)
    axis.set_ylim(0, 1.14)
    axis.set_xticks([0, 1, 2, 3],
                    ['0', r'$\delta$', r'$2\delta$', r'$3\delta$'])
    axis.set_xlabel('$|w|$')
    axis.set_ylabel('$g$', rotation=0, size=11, labelpad=8)
    axis.set_title('Ternary phase: gradient factor')


def draw_schedule(axis: Axes) -> None:
    """Phases, regularizer and temperature as a config sets them."""
    cfg = Config.fromfile(CONFIG)
    schedule, regularizer = [
        HOOKS.build(cfg.default_hooks[x]) for x in ('ternary', 'regularizer')
    ]
    epochs, length = cfg.train_cfg.max_epochs, 100
    runner = SimpleNamespace(
        max_iters=epochs * length, train_dataloader=range(length))
    begin = to_iterations(runner, schedule.begin, schedule.by_epoch)
    low, high = schedule.temperature
    steps, strengths, temperatures = range(runner.max_iters), [], []
    for runner.iter in steps:
        strengths.append(regularizer.strength(runner))
        temperatures.append(low + (high - low) * train_progress(runner, begin))
    x = torch.tensor(steps) / length
    switch = begin / length
    axis.axvspan(0, switch, color=APPROACH, alpha=0.14, lw=0)
    axis.axvspan(switch, epochs, color=TERNARY, alpha=0.07, lw=0)
    axis.plot(
        x[:begin],
        torch.tensor(strengths[:begin]) / max(strengths),
        color=DARK_APPROACH,
        lw=2.2)
    axis.plot(
        x[begin:],
        torch.tensor(temperatures[begin:]) / high,
        color=TERNARY,
        lw=2.2)
    axis.text(
        switch / 2, 1.12, 'approach', ha='center', color=DARK_APPROACH, size=9)
    axis.text(
        (switch + epochs) / 2,
        1.12,
        'ternary',
        ha='center',
        color=TERNARY,
        size=9)
    axis.text(
        switch - .15,
        .4,
        r'$\beta, \lambda$',
        ha='right',
        color=DARK_APPROACH,
        size=12)
    axis.text(
        switch + .62 * (epochs - switch), .4, '$T$', color=TERNARY, size=12)
    axis.set_xlim(0, epochs)
    axis.set_ylim(0, 1.25)
    axis.set_xticks(range(0, epochs + 1, 3))
    axis.set_yticks([0, 1], ['0', 'max'])
    axis.set_xlabel('epoch')
    axis.set_title('Schedule of the two phases')
