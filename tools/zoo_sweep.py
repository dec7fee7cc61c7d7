"""Try every kind of detector in the installed mmdet as a ternary detector.

Takes the smallest config of each model folder. Each runs in a process of its
own: the float model is built without downloads, trained for one step and run;
then the ternary twin must have the same keys and shapes, load the float
weights strictly, train for one step and predict with ternary weights. Writes
a table (Markdown, and JSON beside it).
"""
import argparse
import json
import multiprocessing
import os
import os.path as osp
import resource
import tempfile
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from rich.progress import track
from zoo.check import check, count
from zoo.choose import choose, zoo_root
from zoo.table import markdown, verdict

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
# Address space of one check, bytes: a config that needs more must not take
# the machine down.
MEMORY = 12 * 2**30
# What the table tells the versions of: the frameworks, and packages that some
# of mmdet's models ask for beside them.
PACKAGES = ('mmdet', 'mmengine', 'mmcv', 'torch', 'lap', 'skimage',
            'mmpretrain', 'timm', 'transformers')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'configs',
        nargs='*',
        help='configs relative to mmdet\'s configs folder, whose rows in the '
        'table are renewed; default: one of each folder, a new table')
    parser.add_argument(
        '--out',
        default=osp.join(ROOT, 'configs', 'ZOO.md'),
        help='Markdown table; the JSON gets the same name')
    parser.add_argument(
        '--counts',
        action='store_true',
        help='only build the named configs, or all that ran before, and renew '
        'what their rows say of the layers')
    parser.add_argument(
        '--timeout', type=float, default=300, help='seconds a config')
    return parser.parse_args()


def run_one(config: str, folder: str, old: Optional[Dict[str, Any]]) -> None:
    """In the process of one config: check it, or only count its layers where
    there is an ``old`` record; write its record to ``folder``."""
    log = os.open(osp.join(folder, 'log'), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Some configs name their teachers relative to mmdet's root.
    os.chdir(zoo_root())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    record: Dict[str, Any] = old or dict(config=config, stage='float')
    path = str(zoo_root() / 'configs' / config)

    def save() -> None:
        Path(folder, 'record.json').write_text(json.dumps(record))

    save()
    try:
        if old is None:
            check(path, record, save)
        else:
            count(path, record)
    finally:
        save()


def start(config: str, timeout: float,
          old: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Check a config in a process of its own; its record, however it
    ends."""
    with tempfile.TemporaryDirectory() as folder:
        # A fork server has imported everything once.
        context = multiprocessing.get_context('forkserver')
        process = context.Process(target=run_one, args=(config, folder, old))
        process.start()
        process.join(timeout)
        reason = ''
        if process.is_alive():
            process.kill()
            process.join()
            reason = f'no result after {timeout:g} s'
        elif process.exitcode:
            reason = (f'the process ended with status {process.exitcode}: '
                      f'{_last_line(osp.join(folder, "log"))}')
        record = dict(config=config, stage='float')
        path = Path(folder, 'record.json')
        if path.exists():
            record = json.loads(path.read_text())
        if reason and record['stage'] != 'done':
            record.setdefault('reason', reason)
        return record


def _last_line(path: str) -> str:
    text = Path(path).read_text(errors='replace') if osp.exists(path) else ''
    lines = text.strip().splitlines()
    return lines[-1][:160] if lines else 'no output'


def main() -> None:
    args = parse_args()
    if args.configs or args.counts:
        # Named configs renew their rows in an existing table.
        old = Path(args.out).with_suffix('.json')
        records = json.loads(old.read_text()) if old.exists() else []
        ran = [x['config'] for x in records if verdict(x) == 'ok']
        sweep([[config] for config in args.configs or ran], records, args)
    else:
        sweep(choose(), [], args)


def sweep(folders: List[List[str]], records: List[Dict[str, Any]],
          args: argparse.Namespace) -> None:
    """Check the first config of each folder, the next where its float model
    does not run; ``records`` are rows to keep."""
    multiprocessing.set_forkserver_preload(['zoo.check'])
    # The fork server takes its module path from the environment.
    os.environ['PYTHONPATH'] = os.pathsep.join(
        [ROOT, osp.join(ROOT, 'tools'),
         os.environ.get('PYTHONPATH', '')])
    for candidates in track(folders, 'Sweeping the zoo'):
        for config in candidates:
            old = None
            if args.counts:
                old, = (x for x in records if x['config'] == config)
            record = start(config, args.timeout, old)
            records = sorted(
                [x for x in records if x['config'] != config] + [record],
                key=lambda x: x['config'])
            result = verdict(record)
            print(
                f'{result:11s} {config} {record.get("reason", "")}',
                flush=True)
            # Each time: an interrupted sweep leaves what it has.
            write(args.out, records)
            if result != 'float fails':
                break


def write(path: str, records: List[Dict[str, Any]]) -> None:
    """Markdown to ``path``, JSON beside it."""
    installed = packages_distributions()
    names = [installed[name][0] for name in PACKAGES if name in installed]
    versions = ', '.join(f'{name} {version(name)}' for name in names)
    Path(path).write_text(markdown(records, versions))
    Path(path).with_suffix('.json').write_text(json.dumps(records, indent=1))


if __name__ == '__main__':
    main()
