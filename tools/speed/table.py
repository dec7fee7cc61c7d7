"""Speed results as a table and a plot."""
from typing import Dict, Iterable, List


def latest(lines: Iterable[Dict]) -> List[Dict]:
    """The last line of each case and phase on each machine, so that a table
    may grow from several calls."""
    found = {(x['case'], x.get('phase'), x['machine']): x for x in lines}
    return list(found.values())


def markdown_table(lines: List[Dict]) -> str:
    """Steps first, then the quantizers alone."""
    rows = [
        '| case | phase | float ms | ternary ms | ratio (quartiles) | peak '
        'of tensors | peak resident | machine |',
        '|---|---|---|---|---|---|---|---|'
    ]
    for x in lines:
        if 'ratio' in x and x['case'] != 'scaling':
            rows.append(
                f'| {x["case"]} | {x["phase"]} | {x["float_ms"]:.0f} | '
                f'{x["ternary_ms"]:.0f} | {x["ratio"]:.3f} '
                f'({x["ratio_low"]:.3f}-{x["ratio_high"]:.3f}) | '
                f'{x.get("memory_ratio", "-")} | '
                f'{x.get("resident_ratio", "-")} | {x["machine"]} |')
    rows += [
        '', '| quantizer alone, forward and backward | ns a weight | passes '
        'over memory | machine |', '|---|---|---|---|'
    ]
    rows += [
        f'| {x["phase"]} | {x["ns_per_weight"]} | {x["passes"]} | '
        f'{x["machine"]} |' for x in lines if 'ns_per_weight' in x
    ]
    return '\n'.join(rows) + '\n'


def plot_scaling(lines: List[Dict], path: str) -> None:
    """A step's time and what ternary weights add to it, against the image's
    pixels and against the number of ternary weights."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4))
    labels = dict(
        pixels='pixels of the image, thousands',
        weights='ternary weights, millions')
    for panel, (axis, label) in zip(panels, labels.items()):
        points = [x for x in lines if x.get('axis') == axis]
        unit = 1e3 if axis == 'pixels' else 1e6
        for key, color, name in (('float_ms', 'gray', 'float step'),
                                 ('overhead_ms', 'red',
                                  'added by ternary weights')):
            panel.plot([x[axis] / unit for x in points],
                       [x[key] for x in points],
                       'o-',
                       color=f'tab:{color}',
                       label=name)
        panel.set_xlabel(label)
        panel.set_ylabel('milliseconds')
        # Noise can turn a small difference negative: show it.
        panel.set_ylim(bottom=min(0, *(x['overhead_ms'] for x in points)))
        panel.legend()
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
