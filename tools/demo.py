"""Train a float and a ternary detector on the embedded data set, test both,
export the ternary one, draw detections and write a report. `bash
tools/demo.sh` sets up and runs this."""
import argparse
import os
import os.path as osp
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from glob import glob
from statistics import median
from typing import List, Optional, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (BarColumn, Progress, TextColumn, TimeElapsedColumn,
                           TimeRemainingColumn)
from rich.table import Table

from mmtern.engine.cli import Parser, fail, import_quietly, mistakes_told

CONFIG = 'configs/{}_r18-lite_shapes.py'
STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]')
# What tools/test.py, tools/test_onnx.py and tools/export.py end with.
TESTED = re.compile(
    r'^test (?:AP ([\d.]+), AP50 ([\d.]+)|nothing detected); '
    r'(.+), ([\d.]+ MB)$', re.M)
WROTE = re.compile(r'^wrote .*: ([\d.]+ MB), ([\d.]+x) smaller', re.M)


@dataclass(frozen=True)
class Trained:
    """A training of the demo: title, what it had, config and checkpoint."""
    title: str
    had: str
    config: str
    checkpoint: str
    seconds: float


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(__doc__, 'python tools/demo.py --detector faster_rcnn')
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
        default=[12, 6],
        metavar=('FLOAT', 'MORE'),
        help='epochs of the float detector, and how many more both it and '
        'its ternary twin have then')
    args = parser.parse_args(argv)
    if args.epochs[0] < 1 or args.epochs[1] < 2:
        fail('--epochs must be at least 1 and 2 (an approach and a ternary '
             f'epoch), but got {args.epochs}')
    return args


def call(*command: str) -> str:
    """Run one of the tools; its failure is the demo's.

    Returns:
        str: What it printed.
    """
    result = subprocess.run([sys.executable, *command],
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            text=True)
    if result.returncode:
        sys.stderr.write(result.stdout[-3000:])
        fail(f'{" ".join(command)} failed')
    return result.stdout


def train(title: str, config: str, work_dir: str, epochs: int, *options:
          str) -> float:
    """Train with a progress bar; the log goes to ``train.log``.

    Returns:
        float: Seconds it took.
    """
    os.makedirs(work_dir, exist_ok=True)
    command = [
        sys.executable, 'tools/train.py', config, '--work-dir', work_dir,
        '--cfg-options', f'train_cfg.max_epochs={epochs}',
        f'train_cfg.val_interval={max(1, epochs // 3)}',
        f'param_scheduler.1.end={epochs}', f'param_scheduler.1.T_max={epochs}',
        f'default_hooks.checkpoint.interval={max(1, epochs // 3)}',
        'randomness.seed=0', *options
    ]
    log_path = osp.join(work_dir, 'train.log')
    started = time.time()
    columns = (TextColumn('{task.description:28}'), BarColumn(),
               TextColumn('{task.percentage:3.0f}%'), TimeElapsedColumn(),
               TimeRemainingColumn())
    with open(
            log_path, 'w', buffering=1) as log, Progress(*columns) as progress:
        task = progress.add_task(title, total=1.0)
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
                        f'{title}: epoch {epoch}/{epochs}, about '
                        f'{spent * (1 / done - 1):.0f} s left',
                        flush=True)
        progress.update(task, completed=1.0)
    if process.wait():
        fail(f'training {config} failed, see {log_path}')
    return time.time() - started


def train_all(args: argparse.Namespace) -> List[Trained]:
    """A float detector; from it, with equal epochs and settings, a float and
    a ternary one."""
    first, more = args.epochs
    float_config = CONFIG.format(args.detector)
    ternary_config = CONFIG.format(f'tern_{args.detector}')
    # The ternary schedule, for the float twin's further epochs.
    same = ('optim_wrapper.optimizer.lr=2e-3',
            'optim_wrapper.optimizer.weight_decay=0.0',
            'param_scheduler.0.end=20')
    trained = []
    for title, config, epochs, options in (('float', float_config, first,
                                            ()), ('float, longer',
                                                  float_config, more, same),
                                           ('ternary', ternary_config, more,
                                            ())):
        name = title.replace(', ', '_')
        work_dir = osp.join(args.work_dir, name)
        if trained:
            options += (
                f'load_from={trained[0].checkpoint}',
                # One from before the switch, for the report.
                'default_hooks.checkpoint.max_keep_ckpts=3')
        bar = f'{title}, {epochs} epochs'
        seconds = train(bar, config, work_dir, epochs, *options)
        had = f'{first}' if not trained else f'{first} + {more}'
        trained.append(
            Trained(title, had, config,
                    osp.join(work_dir, f'epoch_{epochs}.pth'), seconds))
    return trained


def speed_of(path: str, reference: str) -> float:
    """Return how many times as fast as ``reference`` a graph runs: the median
    over pairs of runs, in turn, on one picture of noise."""
    import numpy as np
    import onnxruntime
    noise = np.random.default_rng(0).integers(
        256, size=(1, 3, 240, 320), dtype=np.uint8)
    sessions = [
        onnxruntime.InferenceSession(p, providers=['CPUExecutionProvider'])
        for p in (reference, path)
    ]
    ratios = []
    for _ in range(15):
        times = []
        for session in sessions:
            before = time.perf_counter()
            session.run(None, dict(image=noise))
            times.append(time.perf_counter() - before)
        ratios.append(times[0] / times[1])
    return median(ratios)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    # Export needs packages that training does not; before any time is spent.
    import_quietly('mmtern.deploy')
    from mmtern.deploy import check_onnx_packages
    with mistakes_told():
        check_onnx_packages()
    console = Console(highlight=False)
    started = time.time()
    call('tools/make_shapes.py', 'data/shapes')
    trained = train_all(args)
    start, longer, ternary = trained
    console.print('testing, exporting, drawing ...')
    table = Table(box=SIMPLE_HEAD)
    for head in ('detector', 'epochs', 'test AP', 'AP50', 'zeros', 'size',
                 'minutes'):
        table.add_column(
            head, justify='left' if not table.columns else 'right')
    for one in trained:
        said = call('tools/test.py', one.config, one.checkpoint, '--work-dir',
                    osp.dirname(one.checkpoint))
        ap, ap50, weights, size = TESTED.search(said).groups('0.0')
        zeros = re.search(r'([\d.]+ %) zeros', weights)
        table.add_row(one.title, one.had, ap, ap50, zeros[1] if zeros else '-',
                      size, f'{one.seconds / 60:.1f}')
    folder = osp.dirname(ternary.checkpoint)
    made = [
        osp.join(folder, f'ternary.{end}') for end in ('safetensors', 'onnx')
    ]
    sizes = [
        WROTE.search(
            call('tools/export.py', ternary.config, ternary.checkpoint, path,
                 '--force')) for path in made
    ]
    exact = osp.join(args.work_dir, 'float.onnx')
    call('tools/export.py', ternary.config, ternary.checkpoint, exact,
         '--weights', 'float', '--force')
    said = call('tools/test_onnx.py', ternary.config, made[1], '--work-dir',
                osp.join(folder, 'onnx'))
    ap, ap50, *_ = TESTED.search(said).groups('0.0')
    table.add_row('ternary, ONNX', ternary.had, ap, ap50, '', sizes[1][1], '')
    faster = speed_of(made[1], exact)
    picture = osp.join(args.work_dir, 'detections.png')
    call('tools/draw_detections.py', picture, '--model', 'float',
         longer.config, longer.checkpoint, '--model', 'ternary',
         ternary.config, made[0])
    page = osp.join(args.work_dir, 'report.html')
    call('tools/report.py', folder, '--float', osp.dirname(longer.checkpoint),
         '--out', page)
    console.print(table)
    for path, size in zip(made, sizes):
        console.print(f'{path}: {size[1]}, {size[2]} smaller', soft_wrap=True)
    console.print(
        f'{osp.basename(made[1])} runs {faster:.1f} times as fast as the '
        'same detector in float, both in onnxruntime',
        soft_wrap=True)
    console.print(
        f'{picture}\nreport: file://{osp.abspath(page)}', soft_wrap=True)
    minutes = (time.time() - started) / 60
    image = sorted(glob('data/shapes/test/*'))[0]
    commands = (('tools/detect.py', made[1], image),
                ('tools/sensitivity.py', start.config, start.checkpoint))
    lines = [f'  {shlex.join(("python", *command))}\n' for command in commands]
    console.print(
        f'{minutes:.0f} minutes. Next, after "source .venv/bin/activate":\n'
        f'{"".join(lines)}  python -m mmtern inspect mmdet::retinanet/'
        'retinanet_r50_fpn_1x_coco.py',
        soft_wrap=True)


if __name__ == '__main__':
    main()
