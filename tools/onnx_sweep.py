"""Try to export a detector of each of mmdet's model folders as one ONNX file
with boxes, with random ternary weights, and write which can be.

ResNets get 18 layers: the head decides. Each config has a process of its own
and a limit of time. An export compares its graph with PyTorch and with
mmdet's boxes before it counts.
"""
import argparse
import multiprocessing
import os
import os.path as osp
import tempfile
from typing import Any, List

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.progress import track
from zoo.check import offline
from zoo.choose import choose, zoo_root

from mmtern.deploy import save_onnx
from mmtern.engine.cli import import_quietly

ROOT = osp.dirname(osp.abspath(__file__))
# Channels that ResNet-50 and deeper, and ResNet-18 hand to a neck.
DEEP, SHALLOW = (256, 512, 1024, 2048), (64, 128, 256, 512)
BLANK = '| detector | head | ONNX |\n|---|---|---|\n'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'configs', nargs='*', help='relative to mmdet\'s configs folder')
    parser.add_argument(
        '--out', default=osp.join(ROOT, 'results', 'onnx_heads.md'))
    parser.add_argument(
        '--timeout', type=float, default=120, help='seconds a config')
    return parser.parse_args()


def shallow(model: Any) -> None:
    """Put a ResNet of 18 layers in place of a deeper one."""
    backbone, neck = model.backbone, model.get('neck')
    if backbone.get('type') != 'ResNet' or not isinstance(neck, dict):
        return
    if list(neck.in_channels) == list(DEEP[-len(neck.in_channels):]):
        backbone.depth = 18
        neck.in_channels = list(SHALLOW[-len(neck.in_channels):])


def run_one(config: str, path: str) -> None:
    """Write the cells of a config to ``path``."""
    log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    init_default_scope('mmdet')
    cells = ['-', 'not built']
    try:
        cfg = offline(Config.fromfile(str(zoo_root() / 'configs' / config)))
        model = cfg.model
        shallow(model)
        model.update(type='TernDetector', wrapped=model.type)
        torch.manual_seed(0)
        detector = MODELS.build(model).eval()
        head = getattr(detector, 'roi_head', detector)
        head = getattr(head, 'bbox_head', head)
        cells[0] = type(head).__name__
        data = DATASETS.get(cfg.test_dataloader.dataset.type)
        table = save_onnx(detector, cfg, osp.join(osp.dirname(path), 'a.onnx'),
                          data.METAINFO)
        limits = [x for x in table.remarks() if x.startswith('the graph')]
        cells[1] = limits[0].split(' only: ')[0] if limits else 'any size'
    # What is said of any failure is the table's content.
    except Exception as error:
        text = ' '.join(str(error).split()).replace('|', '/')[:140]
        cells[1] = f'no: {text}'
    with open(path, 'w', encoding='utf-8') as file:
        file.write(' | '.join(cells))


def row(config: str, timeout: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = osp.join(folder, 'cells')
        process = multiprocessing.get_context('fork').Process(
            target=run_one, args=(config, path))
        process.start()
        process.join(timeout)
        cells = f'- | no: no result after {timeout:g} s'
        if process.is_alive():
            process.kill()
            process.join()
        elif osp.exists(path):
            with open(path, encoding='utf-8') as file:
                cells = file.read()
        else:
            cells = f'- | no: the process ended with {process.exitcode}'
    return f'| {config} | {cells} |\n'


def main() -> None:
    args = parse_args()
    rows: List[str] = []
    for config in track(args.configs or [x[0] for x in choose()]):
        rows.append(row(config, args.timeout))
        # Each time: an interrupted sweep leaves what it has.
        with open(args.out, 'w', encoding='utf-8') as file:
            file.write(BLANK + ''.join(sorted(rows)))


if __name__ == '__main__':
    main()
