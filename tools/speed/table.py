"""Speed results as a table and a plot."""
from typing import Dict, List


def markdown_table(lines: List[Dict]) -> str:
    """Steps first, then the quantizers alone."""
    rows = [
        '| case | phase | float ms | ternary ms | ratio (quartiles) | peak '
        'memory ratio | machine |', '|---|---|---|---|---|---|---|'
    ]
    for x in lines:
        if 'ratio' in x and x['case'] != 'scaling':
            rows.append(
                f'| {x["case"]} | {x["phase"]} | {x["float_ms"]:.0f} | '
                f'{x["ternary_ms"]:.0f} | {x["ratio"]:.3f} '
                f'({x["ratio_low"]:.3f}-{x["ratio_high"]:.3f}) | '
                f'{x.get("memory_ratio", "-")} | {x["machine"]} |')
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
    """Overhead of a step against the image's pixels."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    points = [x for x in lines if x['case'] == 'scaling']
    figure, axis = plt.subplots(figsize=(6.4, 4))
    pixels = [x['pixels'] for x in points]
    axis.plot(
        pixels, [x['float_ms'] for x in points],
        'o-',
        color='tab:gray',
        label='float step')
    axis.plot(
        pixels, [x['overhead_ms'] for x in points],
        'o-',
        color='tab:red',
        label='added by ternary weights')
    axis.set_xlabel('pixels of the image')
    axis.set_ylabel('milliseconds')
    axis.set_ylim(bottom=0)
    axis.legend()
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
