"""Measure what else a user could ship at the size of a ternary detector: the
float detector in 8 bits or with 4-bit weights, and a narrower one.

Each trained detector is exported with its boxes, calibrated on the training
images of its config, and tested by its config's metric in onnxruntime:

    python tools/bench_rivals.py 'RetinaNet-R18 lite, BCCD' \\
        --float 'float' CONFIG CKPT \\
        --float 'float, half as wide' CONFIG CKPT \\
        --ternary 'mmtern' CONFIG CKPT

Result lines and their table lie in the results' folder as rivals.jsonl and
rivals.md; lines of the same case are replaced.
"""
import argparse
import json
import os.path as osp
import tempfile
from typing import Any, Dict, List

from mmengine.config import Config
from mmengine.runner import Runner
from onnxruntime.quantization import QuantType, quantize_static

from mmtern.deploy import calibration_images, save_onnx
from mmtern.deploy.activations import LAYERS, Reader
from mmtern.deploy.detector import run_in_place
from mmtern.engine.cli import fail, import_quietly
from mmtern.files.load import build_trained
from mmtern.files.sizes import megabytes

RESULTS = osp.join(osp.dirname(osp.abspath(__file__)), 'results', 'rivals')
FLOAT = {
    'float': dict(weights='float'),
    '8-bit weights and activations': dict(weights='int8', activations='int8'),
}
TERNARY = {'2-bit weights, 8-bit activations': dict(activations='int8')}
FOUR_BITS = '4-bit weights, 8-bit activations'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('case', help='detector and data, as the table has it')
    for kind in ('float', 'ternary'):
        parser.add_argument(
            f'--{kind}',
            nargs=3,
            action='append',
            default=[],
            metavar=('NAME', 'CONFIG', 'CKPT'),
            help=f'a trained {kind} detector')
    parser.add_argument('--out', default=RESULTS, help='without ending')
    args = parser.parse_args()
    if not args.float and not args.ternary:
        fail('name a detector by --float or --ternary NAME CONFIG CKPT')
    return args


def four_bits(source: str, target: str, images: List[Any]) -> None:
    """onnxruntime's own static quantization of a float file, a scale for each
    channel's weights."""
    quantize_static(
        source,
        target,
        Reader(dict(image=image[None].numpy()) for image in images),
        op_types_to_quantize=list(LAYERS),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt4)


def tested(config: str, path: str) -> Dict[str, float]:
    """The test metrics of an exported file, under their short names."""
    cfg = Config.fromfile(config)
    run_in_place(cfg, path)
    cfg.log_level, cfg.work_dir = 'ERROR', osp.dirname(path)
    metrics = Runner.from_cfg(cfg).test()
    return {
        short: round(100 * metrics[f'coco/bbox_{name}'], 1)
        for short, name in dict(AP='mAP', AP50='mAP_50').items()
    }


def measure(case: str, name: str, config: str, checkpoint: str,
            files: Dict[str, dict], folder: str) -> List[Dict[str, Any]]:
    """A line for each file of a detector, written to ``folder``."""
    cfg = Config.fromfile(config)
    model, meta = build_trained(cfg, checkpoint)
    images = list(calibration_images(cfg))
    paths = {file: osp.join(folder, f'{name}, {file}.onnx') for file in files}
    for file, options in files.items():
        save_onnx(model, cfg, paths[file], meta, images=images, **options)
    if 'float' in files:
        paths[FOUR_BITS] = osp.join(folder, f'{name}, {FOUR_BITS}.onnx')
        four_bits(paths['float'], paths[FOUR_BITS], images)
    lines = []
    for file, path in paths.items():
        line = dict(
            case=case,
            detector=name,
            file=file,
            bytes=osp.getsize(path),
            **tested(config, path))
        print(line, flush=True)
        lines.append(line)
    return lines


def write(lines: List[Dict[str, Any]], out: str) -> None:
    """Lines, and their table in Markdown, smallest first."""
    lines.sort(key=lambda line: (line['case'], line['bytes']))
    with open(f'{out}.jsonl', 'w', encoding='utf-8') as file:
        file.writelines(json.dumps(line) + '\n' for line in lines)
    with open(f'{out}.md', 'w', encoding='utf-8') as file:
        file.write('| data | detector | ONNX file | size | test AP | AP50 |\n'
                   f'|{"---|" * 6}\n')
        for line in lines:
            file.write(f'| {line["case"]} | {line["detector"]} | '
                       f'{line["file"]} | {megabytes(line["bytes"])} | '
                       f'{line["AP"]} | {line["AP50"]} |\n')


def main() -> None:
    args = parse_args()
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    new = []
    # One for all: mmengine's visualizer writes to the first run's to the end.
    with tempfile.TemporaryDirectory() as folder:
        for detector in args.float:
            new += measure(args.case, *detector, FLOAT, folder)
        for detector in args.ternary:
            new += measure(args.case, *detector, TERNARY, folder)
    old: List[Dict[str, Any]] = []
    if osp.exists(f'{args.out}.jsonl'):
        with open(f'{args.out}.jsonl', encoding='utf-8') as file:
            old = [json.loads(line) for line in file]
    write(new + [line for line in old if line['case'] != args.case], args.out)


if __name__ == '__main__':
    main()
