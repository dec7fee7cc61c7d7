"""Speed results as a table and a plot."""
from typing import Dict, Iterable, List


def latest(lines: Iterable[Dict]) -> List[Dict]:
    """The last line of each case and mode on each machine, so that a table
    may grow from several calls."""
    found = {(x['case'], mode_name(x), x['machine']): x for x in lines}
    return list(found.values())


def mode_name(line: Dict) -> str:
    """Phase, and in what the mode differs from float32 as PyTorch lays it
    out; the lines of version 0.1 name the phase alone."""
    words = [line.get('phase', '')]
    if line.get('precision', 'float32') != 'float32':
        words.append(line['precision'])
    if line.get('channels_last'):
        words.append('channels_last')
    if line.get('way', 'kernels') != 'kernels':
        words.append(f'by {line["way"]}')
    return ', '.join(words)


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
                f'| {x["case"]} | {mode_name(x)} | {x["float_ms"]:.0f} | '
                f'{x["ternary_ms"]:.0f} | {x["ratio"]:.3f} '
                f'({x["ratio_low"]:.3f}-{x["ratio_high"]:.3f}) | '
                f'{x.get("memory_ratio", "-")} | '
                f'{x.get("resident_ratio", "-")} | {x["machine"]} |')
    hosts = [x for x in lines if x['case'] == 'host']
    if hosts:
        rows += ['', *host_rows(hosts)]
    endured = [x for x in lines if 'skipped' in x]
    if endured:
        rows += [
            '', '| float16 with a loss scaler | iterations | skipped | not '
            'finite | stale layers | first loss | last loss | machine |',
            '|---|---|---|---|---|---|---|---|'
        ]
    rows += [
        f'| {x["case"]} | {x["iterations"]} | {x["skipped"]} | '
        f'{x["not_finite"]} | {x["stale"]} | {x["first_loss"]} | '
        f'{x["last_loss"]} | {x["machine"]} |' for x in endured
    ]
    rows += [
        '', '| quantizer alone, forward and backward | ns a weight | passes '
        'over memory | machine |', '|---|---|---|---|'
    ]
    rows += [
        f'| {x["phase"]} | {x["ns_per_weight"]} | {x["passes"]} | '
        f'{x["machine"]} |' for x in lines if 'ns_per_weight' in x
    ]
    return '\n'.join(rows) + '\n'


def host_rows(lines: List[Dict]) -> List[str]:
    """What a layer asks of the host; forward / backward in each cell."""
    rows = [
        '| the host, a layer of a thin model | float, us | ternary adds, us | '
        'Python calls added | launches added | machine |',
        '|---|---|---|---|---|---|'
    ]
    for x in lines:
        cells = [
            ' / '.join(
                str(x[key.format(part)]) for part in ('forward', 'backward')
                if key.format(part) in x)
            for key in ('float_{}_us', 'added_{}_us', '{}_calls',
                        '{}_launches')
        ]
        rows.append(
            f'| {mode_name(x)} | {" | ".join(cells)} | {x["machine"]} |')
    return rows


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
