"""Compare ternary methods on real images: every method starts from the same
float checkpoint and has the same extra epochs.

Finished runs are skipped, a killed run resumes, a failed one becomes a row
with its error. Result lines go to tools/results/SUITE.jsonl, table and
plots beside them.
"""
import argparse
import multiprocessing
import os
import os.path as osp
import time
from dataclasses import asdict
from operator import itemgetter

from accuracy.methods import ABLATIONS, MAIN_METHODS, METHODS, ablation
from accuracy.plan import (BUDGET_NAMES, DETECTORS, OPTIMIZERS, SCOPES, SUITES,
                           ZEROS_PER, Run, plan)
from accuracy.plot import draw
from accuracy.results import (append_line, gain_over, is_finished, read_lines,
                              run_of)
from accuracy.summary import markdown_table
from mmtern.checks import check_sparsity
from mmtern.launch import fail

RESULTS = osp.join(osp.dirname(osp.abspath(__file__)), 'results')


def _ablation_name(name: str) -> str:
    try:
        ablation(name)
    except KeyError as error:
        raise argparse.ArgumentTypeError(
            f'unknown ablation {error}; choose of {", ".join(ABLATIONS)}')
    return name


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--suite', choices=SUITES, default='bccd-lite')
    parser.add_argument(
        '--detectors',
        nargs='+',
        choices=DETECTORS,
        help='default: all of the suite')
    parser.add_argument(
        '--methods', nargs='*', choices=METHODS, default=list(MAIN_METHODS))
    parser.add_argument(
        '--ablations',
        nargs='*',
        type=_ablation_name,
        default=[],
        metavar='NAME',
        help='changes to mmtern, several in one run joined by "+", of '
        f'{", ".join(ABLATIONS)}')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--budget', choices=BUDGET_NAMES, default='short')
    parser.add_argument('--scope', choices=SCOPES, default='all')
    parser.add_argument(
        '--min-sparsity', type=float, default=0.0, help='share of zeros')
    parser.add_argument(
        '--zeros-per',
        choices=ZEROS_PER,
        default='filter',
        help='what must hold that share')
    parser.add_argument(
        '--optimizer',
        choices=OPTIMIZERS,
        help="of the extra epochs; default: the suite's")
    parser.add_argument(
        '--lr', type=float, help="of the extra epochs; default: the suite's")
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision for every run, float ones included')
    parser.add_argument(
        '--work-dir', default='work_dirs/bench_accuracy', help='checkpoints')
    parser.add_argument('--results', default=RESULTS, help='result folder')
    parser.add_argument(
        '--redraw',
        action='store_true',
        help='only make table and plots anew from the result lines')
    return parser.parse_args()


def _run_and_append(run: Run, folder: str, path: str) -> None:
    """In a process of its own: registries, memory and crashes end with
    it."""
    from accuracy.train import measure
    try:
        line = measure(run, folder)
    except BaseException as error:
        message = f'{type(error).__name__}: {str(error).splitlines()[:1]}'
        append_line(path, dict(asdict(run), error=message))
        raise
    append_line(path, line)


def write_summary(path: str) -> str:
    """Table and plots beside the result lines: of the methods, and of what
    was changed in mmtern.

    Returns:
        str: The table.
    """
    lines = read_lines(path)
    stem, _ = osp.splitext(path)
    table = markdown_table(lines)
    with open(f'{stem}.md', 'w') as file:
        file.write(table)
    methods = [line for line in lines if not run_of(line).ablation]
    changes = [line for line in lines if run_of(line).ablation]
    draw(methods, f'{stem}.png', 'test AP (%)', itemgetter('AP'))
    draw(
        changes,
        f'{stem}_ablations.png',
        'test AP over mmtern (%)',
        lambda line: gain_over(line, lines,
                               run_of(line).method, 'AP'),
        differences=True)
    return table


def main() -> None:
    args = parse_args()
    os.makedirs(args.results, exist_ok=True)
    path = osp.join(args.results, f'{args.suite}.jsonl')
    if args.redraw:
        if not osp.isfile(path):
            fail(f'there are no result lines in {path!r} yet')
        write_summary(path)
        return
    try:
        check_sparsity('--min-sparsity', args.min_sparsity)
    except ValueError as error:
        fail(str(error))
    suite = SUITES[args.suite]
    for detector in args.detectors or []:
        if detector not in suite.detectors:
            fail(f'--suite {args.suite} has no {detector!r}, only '
                 f'{", ".join(suite.detectors)}')
    if args.budget not in suite.budgets:
        fail(f'--suite {args.suite} has no budget {args.budget!r}, only '
             f'{", ".join(suite.budgets)}')
    if args.lr is not None and not args.lr > 0:
        fail(f'--lr must be above 0, got {args.lr}')
    missing = suite.missing()
    if missing:
        fail(f'--suite {args.suite} cannot run, {"; ".join(missing)}')
    base = Run(
        args.suite,
        budget=args.budget,
        scope=args.scope,
        min_sparsity=args.min_sparsity,
        zeros_per=args.zeros_per,
        amp=args.amp,
        lr=args.lr or suite.lr,
        optimizer=args.optimizer or suite.optimizer)
    runs = [
        run for run in plan(base, args.detectors or suite.detectors,
                            args.methods, args.ablations, args.seeds)
        if not is_finished(run, read_lines(path))
    ]
    context = multiprocessing.get_context('spawn')
    folder = osp.join(args.work_dir, args.suite)
    started, failed = time.time(), 0
    for done, run in enumerate(runs):
        process = context.Process(
            target=_run_and_append, args=(run, folder, path))
        process.start()
        process.join()
        failed += process.exitcode != 0
        write_summary(path)
        left = (time.time() - started) / (done + 1) * (len(runs) - done - 1)
        print(
            f'[{done + 1}/{len(runs)}] {run.name}: exit '
            f'{process.exitcode}, about {left / 60:.0f} min left',
            flush=True)
    print(write_summary(path))
    if failed:
        fail(f'{failed} of {len(runs)} runs failed, see {path}')


if __name__ == '__main__':
    main()
