"""Time ternary against float training, in one process, A B A B.

Prints a table and writes result lines to tools/results/speed.jsonl. Ratios
are medians over pairs of neighbouring steps, so that drift of a shared
machine cancels.
"""
import argparse
import json
import os.path as osp

import torch
from mmengine.registry import init_default_scope
from speed.cases import CASES, Case
from speed.measure import compare_steps, peak_memory, quantizer_cost, scaling
from speed.table import markdown_table, plot_scaling

RESULTS = osp.join(osp.dirname(osp.abspath(__file__)), 'results')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--cases',
        nargs='+',
        choices=CASES,
        default=None,
        metavar='CASE',
        help=f'of {", ".join(CASES)}')
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
        help='overhead against image size, as a plot')
    parser.add_argument('--results', default=RESULTS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    init_default_scope('mmdet')
    machine = (
        torch.cuda.get_device_name()
        if args.device == 'cuda' else f'CPU, {args.threads} threads')
    path = osp.join(args.results, 'speed.jsonl')
    lines = []
    for name in args.cases or CASES:
        case: Case = CASES[name]
        for phase in ('approach', 'ternary', 'inference'):
            line = dict(
                case=name,
                phase=phase,
                machine=machine,
                pairs=args.pairs,
                **compare_steps(case, phase, args.pairs, args.device))
            if phase != 'inference':
                line['memory_ratio'] = peak_memory(case, phase, args.device)
            lines.append(line)
            print(json.dumps(line), flush=True)
    for method, cost in quantizer_cost(args.device).items():
        lines.append(
            dict(
                case='quantizer alone', phase=method, machine=machine, **cost))
    if args.scaling:
        lines += [
            dict(case='scaling', machine=machine, **point)
            for point in scaling(args.pairs, args.device)
        ]
        plot_scaling(lines, osp.join(args.results, 'speed_scaling.png'))
    with open(path, 'a') as file:
        file.writelines(json.dumps(line) + '\n' for line in lines)
    table = markdown_table(lines)
    with open(osp.join(args.results, 'speed.md'), 'w') as file:
        file.write(table)
    print(table)


if __name__ == '__main__':
    main()
