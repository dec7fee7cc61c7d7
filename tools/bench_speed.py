"""Time ternary against float training, in one process, A B A B.

Prints a table and appends result lines to speed.jsonl in the results' folder
as they come. Ratios are medians over pairs of neighbouring steps, so that
drift of a shared machine cancels.
"""
import argparse
import json
import os
import os.path as osp
import platform
import time
from functools import partial
from importlib.util import find_spec
from typing import Callable, Iterator, Tuple

import torch
from mmengine.registry import init_default_scope
from speed.cases import CASES, GPU_CASES
from speed.endurance import endure
from speed.host import host_cost
from speed.measure import Mode, compare_steps, scaling
from speed.memory import peak_memory
from speed.quantizer import quantizer_cost
from speed.suite import CASES as SUITE_CASES
from speed.suite import until
from speed.table import latest, markdown_table, plot_scaling

PHASES = ('approach', 'ternary', 'inference')

RESULTS = osp.join(osp.dirname(osp.abspath(__file__)), 'results')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--cases',
        nargs='+',
        choices=[*CASES, 'none'],
        metavar='CASE',
        help=f'of {", ".join(CASES)}, or none; by default all but smoke, and '
        f'on a CPU but {", ".join(GPU_CASES)}')
    parser.add_argument(
        '--no-memory', action='store_true', help='leave peak memory out')
    parser.add_argument(
        '--pairs',
        type=int,
        default=12,
        help='pairs of float and ternary steps')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument(
        '--scaling',
        action='store_true',
        help='overhead against image size and parameter count, as a plot')
    parser.add_argument(
        '--host',
        action='store_true',
        help='what a layer asks of the host, on a thin model, and nothing '
        'else')
    parser.add_argument(
        '--gpu-suite',
        action='store_true',
        help='RetinaNet-R50 and Faster R-CNN-R50, mmdet\'s batch, in every '
        'precision, the host, and 200 iterations with a loss scaler; with '
        '--cases smoke, a rehearsal')
    parser.add_argument(
        '--minutes',
        type=float,
        default=7.0,
        help='after how many the GPU suite begins no further measurement')
    parser.add_argument('--results', default=RESULTS)
    args = parser.parse_args()
    if args.host:
        args.cases = []
    elif args.cases is None and args.gpu_suite:
        args.cases = list(SUITE_CASES)
    elif args.cases == ['none']:
        args.cases = []
    elif args.cases is None:
        left = ['smoke'] + (GPU_CASES if args.device == 'cpu' else [])
        args.cases = [name for name in CASES if name not in left]
    return args


def machine_name(device: str, threads: int) -> str:
    if device == 'cuda':
        return torch.cuda.get_device_name()
    with open('/proc/cpuinfo') as file:
        models = [x for x in file if x.startswith('model name')]
    name = models[0].split(':')[1].strip() if models else platform.machine()
    instructions = torch.backends.cpu.get_cpu_capability()
    return f'{name}, {instructions}, {threads} threads'


def chosen(args: argparse.Namespace, end: float) -> Iterator[Tuple[str, Mode]]:
    if args.gpu_suite:
        yield from until(end, args.cases)
        return
    for name in args.cases:
        for phase in PHASES:
            yield name, Mode(phase)


def completed(args: argparse.Namespace, line: dict,
              work: Callable[[], dict]) -> dict:
    """Return ``line`` with what ``work`` measures. In the GPU suite an error
    has its place there, too: the minutes are few, and a detector may lack an
    operation in a precision."""
    try:
        line.update(work())
    except Exception as error:
        if not args.gpu_suite:
            raise
        line['error'] = f'{type(error).__name__}: {error}'.splitlines()[0]
    return line


def of_the_host(args: argparse.Namespace) -> Iterator[dict]:
    modes = [Mode(phase) for phase in PHASES]
    if args.device == 'cuda':
        modes.append(Mode('ternary', 'float16'))
    elif find_spec('triton'):
        modes += [
            Mode('approach', way='stub'),
            Mode('ternary', way='stub'),
            Mode('ternary', 'float16', way='stub')
        ]
    for mode in modes:
        # A step of the thin model takes milliseconds.
        work = partial(host_cost, mode, 10 * args.pairs, args.device)
        yield completed(args, dict(case='host', **vars(mode)), work)


def of_a_detector(args: argparse.Namespace, name: str, mode: Mode) -> dict:
    line = compare_steps(CASES[name], mode, args.pairs, args.device)
    if mode.phase != 'inference' and not args.no_memory:
        line.update(peak_memory(CASES[name], mode, args.device))
    return line


def measure(args: argparse.Namespace) -> Iterator[dict]:
    end = time.perf_counter() + 60 * args.minutes
    if args.host or args.gpu_suite:
        yield from of_the_host(args)
    if args.gpu_suite:
        iterations = 200 if args.device == 'cuda' else 10
        name = args.cases[0]
        line = dict(case=name, phase='endurance', precision='float16')
        yield completed(args, line,
                        partial(endure, CASES[name], iterations, args.device))
    for name, mode in chosen(args, end):
        line = dict(case=name, pairs=args.pairs, **vars(mode))
        yield completed(args, line, partial(of_a_detector, args, name, mode))
    if args.host or args.gpu_suite:
        return
    for method, cost in quantizer_cost(args.device).items():
        yield dict(case='quantizer alone', phase=method, **cost)
    if args.scaling:
        for point in scaling(args.pairs, args.device):
            yield dict(case='scaling', pairs=args.pairs, **point)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    init_default_scope('mmdet')
    os.makedirs(args.results, exist_ok=True)
    machine = machine_name(args.device, args.threads)
    lines = []
    for line in measure(args):
        lines.append(dict(line, machine=machine))
        print(json.dumps(lines[-1]), flush=True)
        with open(osp.join(args.results, 'speed.jsonl'), 'a') as file:
            file.write(json.dumps(lines[-1]) + '\n')
    if args.scaling:
        plot_scaling(lines, osp.join(args.results, 'speed_scaling.png'))
    with open(osp.join(args.results, 'speed.jsonl')) as file:
        table = markdown_table(latest(map(json.loads, file)))
    with open(osp.join(args.results, 'speed.md'), 'w') as file:
        file.write(table)
    print(table)


if __name__ == '__main__':
    main()
