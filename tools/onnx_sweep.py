"""Try to export the detectors of the zoo as one ONNX file with boxes, with
random ternary weights, and write which can be.

Takes the configs of configs/ZOO.json, the first of each kind of head before
the others. ResNets get 18 layers: the head decides. Each config has a process
of its own and a limit of processor time. An export compares its graph with
PyTorch and with mmdet's boxes before it counts. The table is made of the lines
beside it: an interrupted sweep goes on where it ended, and configs that are
named are tried again.
"""
import argparse
import json
import multiprocessing
import os
import os.path as osp
import re
import resource
import signal
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Dict, List

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.progress import track
from zoo.check import offline
from zoo.choose import zoo_root

from mmtern.deploy import save_onnx
from mmtern.engine.cli import import_quietly

ROOT = Path(__file__).absolute().parent
ZOO = ROOT.parent / 'configs' / 'ZOO.json'
# Channels that ResNet-50 and deeper, and ResNet-18 hand to a neck.
DEEP, SHALLOW = (256, 512, 1024, 2048), (64, 128, 256, 512)
# How a refusal begins in a line.
NO = 'no: '
# The head of a detector that could not be built.
NOT_BUILT = '-'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'configs', nargs='*', help='relative to mmdet\'s configs folder')
    parser.add_argument(
        '--out',
        default=str(ROOT / 'results' / 'onnx_heads.jsonl'),
        help='lines; the table gets the same name')
    parser.add_argument(
        '--timeout', type=int, default=300, help='processor seconds a config')
    return parser.parse_args()


def head_of(detector: Any) -> Any:
    """The part of a detector, or of its config, that finds boxes."""
    for name in ('detector', 'roi_head', 'bbox_head', 'panoptic_head'):
        part = getattr(detector, name, None)
        # Cascades hold a list of heads.
        if isinstance(part, (dict, torch.nn.Module)) and not isinstance(
                part, torch.nn.ModuleList):
            return head_of(part)
    return detector


def zoo_configs() -> List[str]:
    """The zoo's configs, the first of each kind of head before the
    others."""
    seen: Counter = Counter()
    turns = {}
    for record in json.loads(ZOO.read_text()):
        config = record['config']
        try:
            model = Config.fromfile(str(zoo_root() / 'configs' / config)).model
        except Exception:  # a package that mmdet does not require
            model = {}
        kind = head_of(model).get('type')
        turns[config] = seen[kind]
        seen[kind] += 1
    return sorted(turns, key=turns.__getitem__)


def shallow(model: Any) -> None:
    """Put a ResNet of 18 layers in place of a deeper one."""
    backbone, neck = model.get('backbone') or {}, model.get('neck')
    if backbone.get('type') != 'ResNet' or not isinstance(neck, dict):
        return
    channels = neck.get('in_channels')
    if isinstance(channels, list) and channels == list(DEEP[-len(channels):]):
        backbone.depth = 18
        neck.in_channels = list(SHALLOW[-len(channels):])


def run_one(config: str, path: str, timeout: int) -> None:
    """Write what is found of a config to ``path``, unless that takes more
    seconds of processor time than ``timeout``."""
    # Not of the clock: other work on the machine decides nothing.
    resource.setrlimit(resource.RLIMIT_CPU, (timeout, timeout + 5))
    log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    init_default_scope('mmdet')
    # Some configs name their teachers relative to mmdet's root.
    os.chdir(zoo_root())
    line = dict(head=NOT_BUILT)
    try:
        cfg = offline(Config.fromfile(str(zoo_root() / 'configs' / config)))
        model = cfg.model
        shallow(model)
        model.update(type='TernDetector', wrapped=model.type)
        torch.manual_seed(0)
        detector = MODELS.build(model)
        detector.eval()  # distillers return nothing
        head = head_of(detector)
        line['head'] = type(head).__name__
        classes = list(map(str, range(getattr(head, 'num_classes', 0))))
        table = save_onnx(detector, cfg, osp.join(osp.dirname(path), 'a.onnx'),
                          dict(classes=classes))
        limits = [
            found[1] for remark in table.remarks()
            if (found := re.match('the graph takes (.*?) only: ', remark))
        ]
        line['result'] = ', '.join(limits) or 'any'
    # What is said of any failure is the table's content.
    except Exception as error:
        text = ' '.join(str(error).split())
        # No folders of this machine in the table.
        text = re.sub(r', the current sys.path .*|/\S+/', '', text)
        line['result'] = NO + text[:300]
    Path(path).write_text(json.dumps(line))


def attempt(config: str, timeout: int) -> Dict[str, str]:
    """The line of a config, however its process ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'line')
        process = multiprocessing.get_context('fork').Process(
            target=run_one, args=(config, str(path), timeout))
        process.start()
        process.join()
        if path.exists():
            return dict(config=config, **json.loads(path.read_text()))
        reason = f'the process ended with {process.exitcode}'
        if process.exitcode == -signal.SIGXCPU:
            reason = f'no result after {timeout} s'
        return dict(config=config, head=NOT_BUILT, result=NO + reason)


def markdown(lines: Dict[str, Dict[str, str]]) -> str:
    """A row for each head and result, with the configs that had it; what is
    exported first, and the reasons of refusals below the table."""
    groups: Dict[tuple, List[str]] = defaultdict(list)
    for config, line in sorted(lines.items()):
        groups[line['result'].startswith(NO), line['head'],
               line['result']].append(Path(config).parent.name)
    built = [x for x in lines.values() if x['head'] != NOT_BUILT]
    fine = sum(not x['result'].startswith(NO) for x in built)
    rows, reasons, rest = [], [], []
    for (refused, head, result), configs in sorted(groups.items()):
        names = ', '.join(dict.fromkeys(configs))
        if head == NOT_BUILT:
            rest.append(f'- {names}: {result[len(NO):]}\n')
            continue
        if refused:
            reason = result[len(NO):]
            if reason not in reasons:
                reasons.append(reason)
            result = f'refused ({reasons.index(reason) + 1})'
        rows.append(f'| {head} | {result} | {names} |\n')
    notes = [f'{i}. {reason}\n' for i, reason in enumerate(reasons, 1)]
    return ''.join([
        '# Heads in ONNX\n\n', f'{fine} of {len(built)} detectors of the zoo '
        'go into one file with boxes, weight-only (`python '
        'tools/onnx_sweep.py`).\n\n',
        '| head | images that the graph takes | folders of mmdet |\n'
        '|---|---|---|\n', *rows, '\n', *notes, '\n## Not built here\n\n',
        *(rest or ['None.\n'])
    ])


def main() -> None:
    args = parse_args()
    out = Path(args.out)
    lines = {}
    if out.exists():
        for text in out.read_text().splitlines():
            line = json.loads(text)
            lines[line['config']] = line
    todo = args.configs or [x for x in zoo_configs() if x not in lines]
    for config in track(todo, 'Sweeping the zoo'):
        lines[config] = attempt(config, args.timeout)
        # Each time: an interrupted sweep leaves what it has.
        out.write_text(''.join(
            json.dumps(lines[x]) + '\n' for x in sorted(lines)))
        out.with_suffix('.md').write_text(markdown(lines))


if __name__ == '__main__':
    main()
