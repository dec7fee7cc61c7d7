"""Tell which layers cost a float detector most AP when they become ternary:
one group of layers at a time, without training."""
import argparse
import io
import re
import warnings
from contextlib import redirect_stdout
from copy import deepcopy
from typing import Dict, List, Optional, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from mmtern import Scope, convert, survey
from mmtern.convert import LayerRecord, ternary_layers
from mmtern.engine.checkpoints import read_checkpoint
from mmtern.engine.cli import (Parser, add_config_options, fail,
                               import_quietly, load_config, mistakes_told,
                               only_warnings_logged, require_data,
                               require_file, require_keys, require_model)
from mmtern.files import provenance


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/sensitivity.py configs/retinanet_r18-lite_'
        'shapes.py work_dirs/float/epoch_24.pth --images 40')
    parser.add_argument('config', help='config of the float detector')
    parser.add_argument('checkpoint', help='its trained checkpoint')
    parser.add_argument(
        '--images',
        type=int,
        default=50,
        help='images of the validation set, evenly spaced (default 50)')
    parser.add_argument(
        '--depth',
        type=int,
        default=2,
        help='parts of a name that make a group: 2 for backbone.layer1 '
        '(default), 1 for backbone')
    parser.add_argument(
        '--limit',
        type=float,
        default=2.0,
        help='points of AP that a group may cost without being named for '
        'exclude (default 2)')
    parser.add_argument(
        '--share',
        type=float,
        default=10.0,
        help='percent of the weights that exclude may leave in float: those '
        'that cost most AP a weight (default 10)')
    add_config_options(parser)
    args = parser.parse_args(argv)
    if min(args.images, args.depth) < 1:
        fail('--images and --depth must be at least 1, but got '
             f'{args.images} and {args.depth}')
    args.launcher, args.local_rank, args.work_dir = 'none', 0, None
    return args


def group_layers(records: List[LayerRecord],
                 depth: int) -> Dict[str, List[LayerRecord]]:
    """Layers that convert would take, by the first ``depth`` parts of their
    names."""
    groups: Dict[str, List[LayerRecord]] = {}
    for record in records:
        name = '.'.join(record.name.split('.')[:depth])
        groups.setdefault(name, []).append(record)
    return groups


def pattern_of(group: str) -> str:
    """The regular expression, for ``exclude``, that matches the layers of a
    group and no other."""
    return rf'^{re.escape(group)}(\.|$)'


def costly_groups(costs: Dict[str, float], shares: Dict[str, float],
                  limit: float, share: float) -> List[str]:
    """What to leave in float: the groups that cost most AP a weight, as many
    as ``share`` of the weights hold.

    Args:
        costs (dict): Points of AP that each group costs.
        shares (dict): Its share of the weights, in [0, 1].
        limit (float): Points that a group may cost and is not named.
        share (float): Most that the named ones hold together, in [0, 1].
    """
    named: List[str] = []
    for group in sorted(
            costs, key=lambda g: costs[g] / shares[g], reverse=True):
        held = sum(shares[g] for g in named + [group])
        if costs[group] > limit and held <= share + 1e-9:
            named.append(group)
    return named


def part_ternary(model: nn.Module,
                 records: Sequence[LayerRecord]) -> nn.Module:
    """A copy with these layers ternary."""
    copy = deepcopy(model)
    names = [rf'^{re.escape(record.name)}$' for record in records]
    convert(copy, Scope(include=names))
    return copy


def measure(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    require_keys(cfg, args.config, 'model', 'val_dataloader',
                 'test_dataloader')
    require_data(cfg, 'val_dataloader')
    require_file(args.checkpoint, 'checkpoint')
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    if ternary_layers(require_model(cfg, args.config)):
        fail(f'{args.config} is ternary already; give the float config and '
             'its checkpoint')
    caution = provenance.warning(cfg, read_checkpoint(args.checkpoint),
                                 args.checkpoint, args.config)
    if caution:
        fail(caution)
    from mmdet.apis import init_detector

    from mmtern.analysis.evaluation import read_ground_truth, run_model

    # pycocotools and mmengine's loader print.
    with redirect_stdout(io.StringIO()), only_warnings_logged():
        images = read_ground_truth(cfg, args.images, 'val_dataloader')
        # It resets the filters of warnings, and warns of class names.
        with warnings.catch_warnings(record=True):
            model = init_detector(deepcopy(cfg), args.checkpoint, device='cpu')
    provenance.check_fit(model, read_checkpoint(args.checkpoint),
                         args.checkpoint)
    groups = group_layers(survey(model, Scope()).ternary, args.depth)
    total = sum(r.weights for records in groups.values() for r in records)
    base = run_model('all float', model, images).accuracy.ap
    costs = {}
    for group, records in groups.items():
        part = part_ternary(model, records)
        costs[group] = base - run_model(group, part, images).accuracy.ap
    shares = {
        group: sum(r.weights for r in records) / total
        for group, records in groups.items()
    }
    named = costly_groups(costs, shares, args.limit, args.share / 100)

    def without(left: Sequence[str]) -> float:
        rest = [r for g in groups if g not in left for r in groups[g]]
        if not rest:
            return base
        part = part_ternary(model, rest)
        return run_model('all together', part, images).accuracy.ap

    together = without([])

    console = Console(highlight=False)
    table = Table(box=SIMPLE_HEAD)
    for head in ('ternary', 'layers', 'weights', 'AP', 'change'):
        table.add_column(
            head, justify='left' if head == 'ternary' else 'right')
    table.add_row('nothing', '0', '0.0 %', f'{base:.1f}', '')
    for group in sorted(costs, key=costs.get, reverse=True):
        table.add_row(group, str(len(groups[group])),
                      f'{100 * shares[group]:.1f} %',
                      f'{base - costs[group]:.1f}', f'{-costs[group]:+.1f}')
    count = sum(map(len, groups.values()))
    table.add_row('all of them', str(count), '100.0 %', f'{together:.1f}',
                  f'{together - base:+.1f}')
    console.print(table)
    console.print(
        f'AP on {len(images.paths)} validation images, without any ternary '
        'training: an order of the groups, not the AP after training.',
        soft_wrap=True)
    if not named:
        console.print(f'No group that costs more than {args.limit:g} points '
                      f'fits into {args.share:g} % of the weights.')
        return
    patterns = ', '.join(f"r'{pattern_of(group)}'" for group in named)
    console.print(
        f'Most AP a weight cost {", ".join(named)}, '
        f'{100 * sum(shares[g] for g in named):.1f} % of the weights; with '
        f'them in float and all else ternary {without(named):.1f} AP. To '
        'leave them so:\n'
        f'model = dict(ternary=dict(exclude=[{patterns}]))',
        markup=False,
        soft_wrap=True)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with mistakes_told():
        measure(args)


if __name__ == '__main__':
    main()
