"""Result lines of the accuracy benchmark: file, table, plot."""
import json
import os.path as osp
from collections import defaultdict
from dataclasses import fields, replace
from statistics import mean, stdev
from typing import Any, Dict, List, Optional

from .plan import Run

Line = Dict[str, Any]


def read_lines(path: str) -> List[Line]:
    """All result lines of a file; none if it does not exist."""
    if not osp.isfile(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file if line.strip()]


def append_line(path: str, line: Line) -> None:
    """Add one result line."""
    with open(path, 'a') as file:
        file.write(json.dumps(line) + '\n')


def is_finished(run: Run, lines: List[Line]) -> bool:
    """Whether a line without an error stands for this run."""
    return any(_run_of(line) == run and 'error' not in line for line in lines)


def _run_of(line: Line) -> Run:
    # A line older than one of the fields was run with that field's default.
    return Run(
        **{
            field.name: line[field.name]
            for field in fields(Run) if field.name in line
        })


def _spread(values: List[float]) -> str:
    if len(values) == 1:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'


def _groups(lines: List[Line]) -> Dict[tuple, List[Line]]:
    groups: Dict[tuple, List[Line]] = defaultdict(list)
    for line in lines:
        if 'error' not in line:
            key = (line['detector'], line['budget'], line['scope'],
                   line['min_sparsity'], line['ablation']
                   or line['method'], _run_of(line).amp)
            groups[key].append(line)
    return groups


def _float_of(line: Line, lines: List[Line]) -> Optional[float]:
    """AP of the float run with the same detector, budget, seed and
    precision."""
    twin = replace(
        _run_of(line), method='fp', scope='all', min_sparsity=0.0, ablation='')
    for other in lines:
        if 'error' not in other and _run_of(other) == twin:
            return other['AP']
    return None


def markdown_table(lines: List[Line]) -> str:
    """Mean and standard deviation over seeds; drop from float, pair by pair;
    a failed run is a row with its error."""
    rows = [
        '| detector | budget | scope | setting | seeds | AP | AP50 | drop '
        'from float | zeros | bits/weight | cosine |',
        '|---|---|---|---|---|---|---|---|---|---|---|'
    ]
    for key, group in _groups(lines).items():
        detector, budget, scope, sparsity, setting, amp = key
        drops = [
            reference - line['AP'] for line in group
            if (reference := _float_of(line, lines)) is not None
        ]
        epochs = (f'{budget} ({group[0]["float_epochs"]} + '
                  f'{group[0]["extra_epochs"]} epochs)')
        if amp:
            epochs += ', amp'
        if sparsity:
            setting += f', at least {sparsity:.0%} zeros'
        ternary = 'zeros' in group[0]
        rows.append('| ' + ' | '.join([
            detector,
            epochs,
            scope if ternary else '-',
            setting,
            str(len(group)),
            _spread([x['AP'] for x in group]),
            _spread([x['AP50'] for x in group]),
            _spread(drops) if drops else '-',
            f'{mean(x["zeros"] for x in group):.1%}' if ternary else '-',
            f'{mean(x["bits_per_weight"] for x in group):.2f}'
            if ternary else '32',
            f'{mean(x["cosine"] for x in group):.3f}' if ternary else '-',
        ]) + ' |')
    rows += [
        f'| {x["detector"]} | {x["budget"]} | {x["scope"]} | '
        f'{x["ablation"] or x["method"]}, seed {x["seed"]} | failed: '
        f'{x["error"]} |||||||' for x in lines if 'error' in x
    ]
    return '\n'.join(rows) + '\n'


def draw(lines: List[Line], path: str) -> None:
    """AP of every setting as points over seeds, one panel a detector and
    budget."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    groups = _groups(lines)
    panels = sorted({(key[0], key[1], key[5]) for key in groups})
    figure, axes = plt.subplots(
        1, len(panels), figsize=(6.4 * len(panels), 4.8), squeeze=False)
    for axis, panel in zip(axes[0], panels):
        members = {
            k: v
            for k, v in groups.items() if (k[0], k[1], k[5]) == panel
        }
        ordered = sorted(
            members.items(), key=lambda item: mean(x['AP'] for x in item[1]))
        for y, (key, group) in enumerate(ordered):
            values = [x['AP'] for x in group]
            color = {
                'fp': 'tab:gray',
                'mmtern': 'tab:red'
            }.get(key[4], 'tab:blue')
            axis.plot(values, [y] * len(values), 'o', color=color, alpha=0.6)
            axis.plot(mean(values), y, '|', color=color, ms=18, mew=2)
        axis.set_yticks(
            range(len(ordered)), [
                key[4] + (f' {key[3]:.0%} zeros' if key[3] else '') +
                (' (backbone)' if key[2] != 'all' else '')
                for key, _ in ordered
            ])
        axis.set_title(f'{panel[0]}, {panel[1]} budget' +
                       (', amp' if panel[2] else ''))
        axis.set_xlabel('test AP (%)')
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
