"""Measure packed files: size, distance from the entropy bound, time and
memory, for detectors with random-normal weights.

Real weights have much the same entropy, and random ones need no training. A
JSON line a case goes to tools/results/files.jsonl, a table beside it.
"""
import argparse
import json
import multiprocessing
import os
import os.path as osp
import tempfile
import time
from dataclasses import asdict, dataclass

import resident

from mmtern.files.sizes import PREDICTIONS, TERNARY

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
RESULTS = osp.join(ROOT, 'tools', 'results')


@dataclass(frozen=True)
class Case:
    """A detector and how its file is written."""
    detector: str
    config: str
    model_sparsity: float = 0.0
    dtype: str = 'float16'
    predictions: str = 'float'


CASES = [
    Case('RetinaNet-R50', 'tern_retinanet_r50.py', dtype='float32'),
    Case('RetinaNet-R50', 'tern_retinanet_r50.py'),
    Case('Faster R-CNN-R50', 'tern_faster_rcnn_r50.py'),
    Case('Faster R-CNN-R50', 'tern_faster_rcnn_r50.py', 0.8),
    Case('Mask R-CNN-R50', 'tern_mask_rcnn_r50.py', 0.8),
    Case('Mask R-CNN-R50', 'tern_mask_rcnn_r50.py', 0.87, predictions='int8'),
]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--results', default=RESULTS, help='result folder')
    parser.add_argument(
        '--cases',
        nargs='+',
        type=int,
        choices=range(len(CASES)),
        default=range(len(CASES)),
        help=f'numbers of the cases, 0 to {len(CASES) - 1}')
    return parser.parse_args()


def _watched(action) -> tuple:
    """What ``action`` returns, its seconds, and the bytes of memory by which
    it raised the process's peak over what was held before."""
    resident.forget_peak()
    before, started = resident.peak(), time.perf_counter()
    result = action()
    return result, time.perf_counter() - started, resident.peak() - before


def measure(case: Case) -> dict:
    """Build, pack and load one case."""
    import torch
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.runner import load_checkpoint

    from mmtern.files import save_packed
    cfg = Config.fromfile(osp.join(ROOT, 'configs', case.config))
    cfg.model.ternary = dict(
        cfg.model.get('ternary') or {}, model_sparsity=case.model_sparsity)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    with tempfile.TemporaryDirectory() as folder:
        path = osp.join(folder, 'packed.safetensors')
        file, pack_seconds, pack_memory = _watched(lambda: save_packed(
            model,
            cfg,
            path,
            dict(classes=['a']),
            dtype=case.dtype,
            predictions=case.predictions))
        _, load_seconds, load_memory = _watched(
            lambda: load_checkpoint(model, path))
    ternary = file.sizes.in_group(TERNARY)
    bound = ternary.total('bound')
    return dict(
        asdict(case),
        bytes_before=file.sizes.total('before'),
        bytes=file.file_size,
        ratio=round(file.ratio, 2),
        ternary_weights=ternary.total('weights'),
        zeros=round(ternary.zeros, 4),
        codes_over_bound=round(ternary.total('codes') / bound - 1, 4),
        ternary_over_bound=round(ternary.total('after') / bound - 1, 4),
        prediction_share=round(
            file.sizes.total('after', PREDICTIONS) / file.file_size, 4),
        pack_seconds=round(pack_seconds, 2),
        load_seconds=round(load_seconds, 2),
        pack_memory=pack_memory,
        load_memory=load_memory,
        threads=torch.get_num_threads())


def table(lines: list) -> str:
    """One row a case."""
    rows = [
        '| detector | zeros | other weights | bytes | ratio | over bound: '
        'codes, with scales | predictions | pack, load | memory |',
        '|---|---|---|---|---|---|---|---|---|'
    ]
    for x in lines:
        other = x['dtype'] + (', int8 predictions'
                              if x['predictions'] == 'int8' else '')
        memory = max(x['pack_memory'], x['load_memory'])
        rows.append(
            f'| {x["detector"]} | {x["zeros"]:.1%} | {other} | '
            f'{x["bytes"]:,} | {x["ratio"]:.1f}x | '
            f'{x["codes_over_bound"]:+.1%}, {x["ternary_over_bound"]:+.1%} | '
            f'{x["prediction_share"]:.0%} | {x["pack_seconds"]:.1f} s, '
            f'{x["load_seconds"]:.1f} s | {memory / 2**20:.0f} MiB |')
    return '\n'.join(rows) + '\n'


def main() -> None:
    args = parse_args()
    os.makedirs(args.results, exist_ok=True)
    # A fresh process for each: the peak of one must not hide another's.
    with multiprocessing.get_context('spawn').Pool(
            1, maxtasksperchild=1) as pool:
        lines = pool.map(measure, [CASES[i] for i in args.cases], chunksize=1)
    with open(osp.join(args.results, 'files.jsonl'), 'w') as file:
        file.writelines(json.dumps(line) + '\n' for line in lines)
    with open(osp.join(args.results, 'files.md'), 'w') as file:
        file.write(table(lines))
    print(table(lines))


if __name__ == '__main__':
    main()
