"""Result lines of the accuracy benchmark: their file, and which of them are
compared."""
import json
import os.path as osp
from dataclasses import fields, replace
from statistics import mean
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from .methods import METHODS, NAMES
from .plan import BUDGET_NAMES, DETECTORS, TITLES, Run, comparable

Line = Dict[str, Any]


def read_lines(path: str) -> List[Line]:
    """All result lines of a file; none if it does not exist."""
    if not osp.isfile(path):
        return []
    with open(path) as file:
        return [_of_today(json.loads(line)) for line in file if line.strip()]


def _of_today(line: Line) -> Line:
    """The line under the name that its method has now. mmtern 0.1 had no
    approach phase, and its lines name no optimizer. Then the neck alone
    taught, and later the head beside it: lines name no teacher, or call its
    modules so."""
    if line['method'] != 'mmtern':
        return line
    if 'optimizer' not in line:
        return dict(line, method='mmtern-0.1')
    changes = [x for x in line.get('ablation', '').split('+') if x]
    settings = line.get('settings', {'modules': None})
    named = {'no-distillation', 'neck-teaches'}.intersection(changes)
    if 'modules' in settings or named:
        return line
    taught = 'neck-and-head-teach' if 'teacher' in settings else 'neck-teaches'
    return dict(line, ablation='+'.join([*changes, taught]))


def append_line(path: str, line: Line) -> None:
    """Add one result line."""
    with open(path, 'a') as file:
        file.write(json.dumps(line) + '\n')


def is_finished(run: Run, lines: List[Line]) -> bool:
    """Whether a line without an error stands for this run."""
    return any(run_of(line) == run and 'error' not in line for line in lines)


def run_of(line: Line) -> Run:
    """The run that a line is the result of."""
    # A line older than one of the fields was run with that field's default.
    return Run(
        **{
            field.name: line[field.name]
            for field in fields(Run) if field.name in line
        })


class Panel(NamedTuple):
    """Runs that may be compared: one table, one plot."""
    detector: str
    budget: str
    float_epochs: int
    extra_epochs: int
    min_sparsity: float

    @property
    def title(self) -> str:
        return f'{TITLES[self.detector]}, {self.conditions}'

    @property
    def conditions(self) -> str:
        """What all runs share but for the detector."""
        text = f'{self.extra_epochs} epochs ({self.budget})'
        if self.float_epochs:
            text = f'{self.float_epochs} float + {text}'
        if self.min_sparsity:
            text += f', at least {self.min_sparsity:.0%} zeros'
        return text


class Row(NamedTuple):
    """One setting over its seeds."""
    method: str
    ablation: str
    scope: str
    zeros_per: str
    optimizer: str
    lr: float

    @property
    def name(self) -> str:
        """What was trained, without the learning rate."""
        parts = [NAMES.get(self.method, self.method)]
        if self.ablation:
            parts.append(self.ablation)
        if self.scope != 'all':
            parts.append(f'{self.scope} only')
        if self.zeros_per != 'filter':
            parts.append(f'zeros per {self.zeros_per}')
        if self.optimizer != 'adamw':
            parts.append(self.optimizer.upper())
        return ', '.join(parts)

    @property
    def title(self) -> str:
        """The whole setting."""
        return f'{self.name}, lr {self.lr:g}'


def panels(lines: List[Line]) -> Dict[Panel, Dict[Row, List[Line]]]:
    """The finished lines of each setting, in the order of the plan's tables:
    detectors, budgets, methods, ablations, learning rates."""
    found: Dict[Panel, Dict[Row, List[Line]]] = {}
    for line in sorted(lines, key=_order):
        if 'error' in line:
            continue
        run = run_of(line)
        panel = Panel(run.detector, run.budget, line['float_epochs'],
                      line['extra_epochs'], run.min_sparsity)
        row = Row(run.method, run.ablation, run.scope, run.zeros_per,
                  run.optimizer, run.lr)
        found.setdefault(panel, {}).setdefault(row, []).append(line)
    return found


def _order(line: Line) -> tuple:
    run = run_of(line)
    return (list(DETECTORS).index(run.detector),
            BUDGET_NAMES.index(run.budget), run.min_sparsity, run.ablation
            != '', run.ablation, list(METHODS).index(run.method), run.scope,
            run.zeros_per, run.optimizer, run.lr, run.seed, run.amp)


def rival_of(line: Line, lines: List[Line], method: str) -> Optional[Line]:
    """The run of ``method`` that a line is measured against: from the same
    float model, of the same detector, budget, seed and learning rate, and but
    for float the same scope and zeros, spread alike; of the same precision
    where that was run."""
    run = run_of(line)
    twin = comparable(replace(run, method=method, ablation=''))
    rivals = [
        other for other in lines
        if 'error' not in other and replace(run_of(other), amp=run.amp) == twin
        # The first lines do not name it, and count as begun from one a seed.
        and other.get('float_model') == line.get('float_model')
    ]
    return max(
        rivals, key=lambda other: run_of(other).amp == run.amp, default=None)


def gain_over(line: Line, lines: List[Line], method: str,
              key: str) -> Optional[float]:
    """How far ``key`` of a line is above that of its :func:`rival_of`; None
    where there is none, or the line is its own."""
    rival = rival_of(line, lines, method)
    return None if rival in (None, line) else line[key] - rival[key]


def best_rates(rows: Dict[Row, List[Line]]) -> Dict[Row, List[Line]]:
    """Of settings that differ in their learning rate alone, the one of the
    highest mean val AP."""
    best: Dict[Row, List[Line]] = {}
    for row, group in rows.items():
        known = [other for other in best if other.name == row.name]
        if known and _val(best[known[0]]) >= _val(group):
            continue
        for other in known:
            del best[other]
        best[row] = group
    return best


def _val(group: List[Line]) -> float:
    return mean(by_seed(group, lambda line: line['val_AP']))


def by_seed(group: List[Line],
            value: Callable[[Line], Optional[float]]) -> List[float]:
    """``value`` of each seed, the mean over the precisions and float models
    that it was run with; lines without one are left out."""
    seeds: Dict[int, List[float]] = {}
    for line in group:
        found = value(line)
        if found is not None:
            seeds.setdefault(line['seed'], []).append(found)
    return [mean(values) for values in seeds.values()]
