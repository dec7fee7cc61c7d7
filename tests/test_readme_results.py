"""The README's accuracy tables are what the committed result lines say."""
import re
import sys
from operator import itemgetter
from pathlib import Path
from statistics import mean
from typing import Optional

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / 'README.md').read_text()
BUDGETS = {'24 + 36': 'real', '8 + 8': 'short'}
DETECTORS = {'RetinaNet': 'retinanet', 'Faster R-CNN': 'faster_rcnn'}
METHODS = {'float': 'fp', 'TWN': 'twn', 'TTQ': 'ttq', 'soft forward': 'soft'}
# Of the extra epochs, as chosen on val.
RATE = {'short': 0.002, 'real': 0.001}
CHANGES = {
    'none': '',
    '`temperature=(0, 0)`': 'plain-ste',
    "`scale='lsq'`": 'scale-lsq',
    "`threshold='exact'`": 'exact-threshold',
    "`'exact'`, `'lsq'` and T = 0": 'exact-threshold+plain-ste+scale-lsq',
    '`TernaryBatchNormHook`': 'batch-norm',
    'approach of 2 epochs, `loss_weight=1e-4`': 'approach-weak',
    "`scale='learned'`": 'scale-learned',
    '`EMAHook(momentum=0.01)`': 'averaging',
    "`'exact'` and `'lsq'`": 'exact-threshold+scale-lsq',
    'neck 1, head 2 epochs later': 'staged',
}
AT_80_PERCENT = {
    'none': '',
    '`temperature=(0, 0)`': 'plain-ste',
    "`scale='lsq'`": 'scale-lsq',
    'both, which is TWN': '',
    'approach of 2 epochs, `loss_weight=1e-4`': 'approach-weak',
    '... `loss_weight=1e-3`': 'approach-strong',
}
CHANGES_TO_THE_SECOND = {
    'none': '',
    '`TernaryBatchNormHook`': 'batch-norm',
    'T = 4 throughout': 'constant-T4',
    'T from 0 to 8': 'T0-8',
    '`TernaryDistillationHook`': 'distillation',
    '`floor=0.5`': 'floor0.5',
    '`floor=0`': 'floor0',
    '`normalize=False`': 'unnormalized',
    'weight decay 0.01': 'weight-decay',
    '`norm_eval=True`': 'frozen-bn',
    'pull in the last 2 epochs': 'pull-late',
    'pull from begin to end': 'pull-to-the-end',
    'approach, `loss_weight=1e-4`': 'approach-weak',
    'approach, `loss_weight=1e-3`': 'approach-strong',
}


@pytest.fixture
def accuracy(monkeypatch):
    """The benchmark's package, with the committed lines; none of it stays
    imported."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import accuracy.results
    import accuracy.summary
    accuracy.lines = accuracy.results.read_lines(
        str(ROOT / 'tools/results/bccd-lite.jsonl'))
    yield accuracy
    for name in [x for x in sys.modules if x.split('.')[0] == 'accuracy']:
        del sys.modules[name]


def table(first_cell: str) -> list:
    """Rows of the table that begins so, as cells; the rule is left out."""
    lines = TEXT[TEXT.index(f'| {first_cell} |'):].split('\n\n')[0]
    rows = [re.split(r'\s*\|\s*', x.strip('| ')) for x in lines.splitlines()]
    return [rows[0], *rows[2:]]


def cells_of_methods() -> list:
    """(what the result lines have, the method that they are over, if any,
    seeds, cell); a number in brackets behind a cell is that of its seeds,
    where it has not those of its column."""
    found, detector = [], None
    for epochs, budget in BUDGETS.items():
        header, seeds, *rows = table(f'{epochs} epochs, test / val AP')
        for column, title in enumerate(header[1:], 1):
            detector = DETECTORS.get(title, detector)
            share = re.search('([0-9]+) %', title)
            zeros = int(share[1]) / 100 if share else 0.0
            for first, *cells in rows:
                cell = cells[column - 1]
                if cell == '-':
                    continue
                wanted = dict(
                    detector=detector,
                    budget=budget,
                    min_sparsity=zeros,
                    zeros_per='model' if zeros else 'filter',
                    method=METHODS.get(first, 'mmtern-0.1'),
                    ablation='',
                    lr=RATE[budget])
                cell, own = re.fullmatch(r'(.*?)(?: \((\d)\))?', cell).groups()
                rival = first.partition('mmtern over ')[2]
                rival = METHODS[rival] if rival else None
                found.append((wanted, rival, own or seeds[column], cell))
    return found


def matching(accuracy, wanted: dict) -> list:
    wanted = dict(wanted, scope='all')
    return [
        line for line in accuracy.lines if 'error' not in line
        and wanted.items() <= vars(accuracy.results.run_of(line)).items()
    ]


def cell_over_seeds(accuracy, group: list, rival: Optional[str]) -> tuple:
    """Test and val AP, or how far they are above the rival's, as a cell; and
    of how many seeds."""
    results, summary = accuracy.results, accuracy.summary

    def value(key):
        if rival is None:
            return itemgetter(key)
        return lambda line: results.gain_over(line, accuracy.lines, rival, key)

    test, val = (
        results.by_seed(group, value(key)) for key in ('AP', 'val_AP'))
    if rival is None:
        return f'{summary.spread(test)} / {mean(val):.1f}', len(test)
    return f'{summary.difference(test)} / {summary.difference(val)}', len(test)


@pytest.mark.parametrize('wanted, rival, seeds, cell', cells_of_methods())
def test_methods(wanted, rival, seeds, cell, accuracy):
    group = matching(accuracy, wanted)
    expected, count = cell_over_seeds(accuracy, group, rival)
    assert (cell, seeds) == (expected, str(count))


def test_all_cells_are_read():
    assert len(cells_of_methods()) > 20


def means(group: list, count: int) -> str:
    """Test and val AP over lines, as many as ``count``, as a cell."""
    assert len(group) == count, group
    test, val = (mean(line[key] for line in group) for key in ('AP', 'val_AP'))
    return f'{test:.1f} / {val:.1f}'


def assert_cell_of_ablation(accuracy,
                            cell,
                            seeds,
                            change,
                            detector='retinanet',
                            min_sparsity=0.0,
                            **wanted):
    """``change`` of mmtern, '' for none, over as many lines as seeds."""
    group = matching(
        accuracy,
        dict(
            wanted,
            detector=detector,
            budget='short',
            min_sparsity=min_sparsity,
            ablation=change,
            lr=RATE['short']))
    assert cell == means(group, seeds), change


def split_by_float_model(accuracy, known: bool) -> None:
    """Keep the lines that say which float model they began from, or the
    others."""
    accuracy.lines = [
        line for line in accuracy.lines if ('float_model' in line) == known
    ]


def test_ablations(accuracy):
    """Left three seeds in bfloat16, then one in float32."""
    split_by_float_model(accuracy, False)
    checked = set()
    _, *rows = table('three seeds, bfloat16')
    for left, left_cell, right, right_cell, *_ in rows:
        for change, cell, seeds in ((left, left_cell, 3), (right, right_cell,
                                                           1)):
            if change:
                assert_cell_of_ablation(
                    accuracy,
                    cell,
                    seeds,
                    CHANGES[change],
                    method='mmtern-0.1',
                    amp=seeds == 3)
                checked.add(change)
    assert checked == set(CHANGES)


def test_ablations_at_80_percent_zeros(accuracy):
    """On the right; all runs of a column from the same float models."""
    split_by_float_model(accuracy, True)
    checked = set()
    header, *rows = table('three seeds, bfloat16')
    for change, *cells in [row[4:] for row in rows]:
        for title, cell in zip(header[5:], cells):
            detector, seeds = re.fullmatch('(.*), ([0-9]) seeds',
                                           title).groups()
            if cell != '-':
                assert_cell_of_ablation(
                    accuracy,
                    cell,
                    int(seeds),
                    AT_80_PERCENT[change],
                    method='twn' if 'TWN' in change else 'mmtern-0.1',
                    detector=DETECTORS[detector],
                    min_sparsity=0.8,
                    zeros_per='model')
        checked.add(change)
    assert checked == set(AT_80_PERCENT)


def test_ablations_of_the_second_float_model(accuracy):
    split_by_float_model(accuracy, True)
    checked = set()
    _, *rows = table('a second float model')
    for row in rows:
        for change, cell in zip(row[::2], row[1::2]):
            name = CHANGES_TO_THE_SECOND.get(change, '')
            method = METHODS.get(change, 'mmtern-0.1')
            assert_cell_of_ablation(
                accuracy, cell, 1, name, method=method, seed=0)
            checked.add(change)
    assert checked == {*CHANGES_TO_THE_SECOND, 'TWN'}


def test_r50(accuracy):
    lines = accuracy.results.read_lines(
        str(ROOT / 'tools/results/bccd-r50.jsonl'))
    claims = []
    for name, method in (('mmtern', 'mmtern-0.1'), ('TWN', 'twn'), ('float',
                                                                    'fp')):
        group = [line for line in lines if line['method'] == method]
        claims.append(f'{name} {means(group, 2)}')
    assert ', '.join(claims) in TEXT


def test_each_filter_of_twn_as_sparse_as_mmtern(accuracy):
    split_by_float_model(accuracy, True)
    cells = []
    for method, per in (('twn', 'filter'), ('mmtern-0.1', 'model')):
        group = matching(
            accuracy,
            dict(
                detector='retinanet',
                budget='real',
                method=method,
                min_sparsity=0.8,
                zeros_per=per,
                amp=True))
        cells.append(means(group, 2))
    claim = 'it has {} where mmtern has {} (2 seeds)'.format(*cells)
    assert claim in ' '.join(TEXT.split())


def test_embedded_data(accuracy):
    accuracy.lines = accuracy.results.read_lines(
        str(ROOT / 'tools/results/shapes-lite.jsonl'))
    header, *rows = table(
        '[`--suite shapes-lite`](tools/results/shapes-lite.md) `--amp`, '
        '8 + 8 epochs')
    for detector, seeds, *cells in rows:
        for title, cell in zip(header[2:], cells):
            method, _, zeros = title.partition(', ')
            group = matching(
                accuracy,
                dict(
                    detector=DETECTORS[detector],
                    method=METHODS.get(method, 'mmtern-0.1'),
                    min_sparsity=0.8 if zeros else 0.0,
                    ablation='approach-strong' * ('approach' in title)))
            assert len(group) == int(seeds), title
            rival = 'twn' if 'over TWN' in title else None
            assert cell_over_seeds(accuracy, group, rival)[0] == cell, title
