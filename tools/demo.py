"""Train a float and a ternary detector on the embedded data set, test both,
export the ternary one and draw detections. `bash tools/demo.sh` sets up and
runs this."""
import argparse
import os
import os.path as osp
import re
import subprocess
import sys
import time
from glob import glob
from typing import Dict, List

import cv2
import numpy as np
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import (BarColumn, Progress, TextColumn, TimeElapsedColumn,
                           TimeRemainingColumn)
from rich.table import Table

from mmtern.analysis.measure import summarize
from mmtern.engine.cli import fail

CONFIG = 'configs/{}_r18-lite_shapes.py'
STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--detector',
        choices=('retinanet', 'faster_rcnn'),
        default='retinanet')
    parser.add_argument(
        '--work-dir', default='work_dirs/demo', help='where results go')
    parser.add_argument(
        '--epochs',
        nargs=2,
        type=int,
        default=[18, 9],
        metavar=('FLOAT', 'TERNARY'),
        help='epochs of the two trainings')
    args = parser.parse_args()
    if min(args.epochs) < 1:
        fail(f'--epochs must be at least 1 each, but got {args.epochs}')
    return args


def call(*command: str) -> None:
    """Run one of the tools; its failure is the demo's."""
    if subprocess.run([sys.executable, *command]).returncode:
        fail(f'{" ".join(command)} failed')


def train(config: str, work_dir: str, epochs: int, *options: str) -> float:
    """Train with a progress bar; the log goes to ``train.log``.

    Returns:
        float: Seconds it took.
    """
    os.makedirs(work_dir, exist_ok=True)
    command = [
        sys.executable, 'tools/train.py', config, '--work-dir', work_dir,
        '--cfg-options', f'train_cfg.max_epochs={epochs}',
        f'train_cfg.val_interval={epochs}', f'param_scheduler.1.end={epochs}',
        f'param_scheduler.1.T_max={epochs}', *options
    ]
    log_path = osp.join(work_dir, 'train.log')
    started = time.time()
    columns = (TextColumn('{task.description:34}'), BarColumn(),
               TextColumn('{task.percentage:3.0f}%'), TimeElapsedColumn(),
               TimeRemainingColumn())
    with open(
            log_path, 'w', buffering=1) as log, Progress(*columns) as progress:
        task = progress.add_task(
            osp.splitext(osp.basename(config))[0], total=1.0)
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True)
        for line in process.stdout:
            log.write(line)
            step = STEP.search(line)
            if step:
                epoch, batch, length = map(int, step.groups())
                done = (epoch - 1 + batch / length) / epochs
                progress.update(task, completed=done)
                if not progress.console.is_terminal and batch == length:
                    # Where a bar cannot move, a line an epoch.
                    spent = time.time() - started
                    print(
                        f'{work_dir}: epoch {epoch}/{epochs}, about '
                        f'{spent * (1 / done - 1):.0f} s left',
                        flush=True)
        progress.update(task, completed=1.0)
    if process.wait():
        fail(f'training {config} failed, see {log_path}')
    return time.time() - started


def test(config: str, checkpoint: str, work_dir: str) -> Dict[str, float]:
    """COCO metrics on the test split, and how ternary the model is."""
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.load_from = work_dir, checkpoint
    cfg.log_level = 'WARNING'
    runner = Runner.from_cfg(cfg)
    result = runner.test()
    return dict(
        AP=100 * result.get('coco/bbox_mAP', 0.0),
        AP50=100 * result.get('coco/bbox_mAP_50', 0.0),
        **summarize(runner.model))


def draw(models: List[tuple], image: str, path: str) -> None:
    """Detections of several (title, config, checkpoint), side by side."""
    panels = []
    for title, config, checkpoint in models:
        inferencer = DetInferencer(
            config, checkpoint, device='cpu', show_progress=False)
        shown = inferencer(image, return_vis=True, pred_score_thr=0.4)
        panel = cv2.resize(
            shown['visualization'][0][..., ::-1], None, fx=2, fy=2)
        cv2.putText(panel, title, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8,
                    (255, 255, 255), 2)
        panels.append(panel)
    cv2.imwrite(path, np.hstack(panels))


def main() -> None:
    args = parse_args()
    float_config = CONFIG.format(args.detector)
    ternary_config = CONFIG.format(f'tern_{args.detector}')
    call('tools/make_shapes.py', 'data/shapes')
    float_dir = osp.join(args.work_dir, 'float')
    ternary_dir = osp.join(args.work_dir, 'ternary')
    float_epochs, ternary_epochs = args.epochs
    float_file = osp.join(float_dir, f'epoch_{float_epochs}.pth')
    ternary_file = osp.join(ternary_dir, f'epoch_{ternary_epochs}.pth')
    seconds = [
        train(float_config, float_dir, float_epochs),
        train(ternary_config, ternary_dir, ternary_epochs,
              f'load_from={float_file}')
    ]
    rows = [
        test(float_config, float_file, float_dir),
        test(ternary_config, ternary_file, ternary_dir)
    ]
    packed = osp.join(args.work_dir, 'ternary.safetensors')
    call('tools/export.py', ternary_config, ternary_file, packed, '--force')
    picture = osp.join(args.work_dir, 'detections.png')
    image = sorted(glob('data/shapes/test/*.jpg'))[0]
    draw([('float', float_config, float_file),
          ('ternary', ternary_config, ternary_file)], image, picture)
    table = Table('detector', 'AP', 'AP50', 'zeros', 'bits/weight', 'cosine',
                  'seconds')
    for name, row, spent in zip(('float', 'ternary'), rows, seconds):
        measured = [
            f'{row["zeros"]:.1%}', f'{row["bits_per_weight"]:.2f}',
            f'{row["cosine"]:.3f}'
        ] if 'zeros' in row else ['-', '32', '-']
        table.add_row(name, f'{row["AP"]:.1f}', f'{row["AP50"]:.1f}',
                      *measured, f'{spent:.0f}')
    console = Console()
    console.print(table)
    sizes = [osp.getsize(path) / 2**20 for path in (float_file, packed)]
    console.print(f'float checkpoint   {float_file} ({sizes[0]:.1f} MiB with '
                  'optimizer state)\n'
                  f'ternary checkpoint {ternary_file}\n'
                  f'packed file        {packed} ({sizes[1]:.1f} MiB)\n'
                  f'detections         {picture}')


if __name__ == '__main__':
    main()
