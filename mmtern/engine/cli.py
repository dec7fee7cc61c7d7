"""What the command-line tools share: a checked config, errors in a
sentence."""
import os
import os.path as osp
import sys
from argparse import ArgumentParser, Namespace
from typing import Any, Iterator, NoReturn, Optional

import torch
from mmengine.config import Config, DictAction

DATA_SECTION = 'README.md, section "Data"'


def add_common_arguments(parser: ArgumentParser) -> None:
    """Add mmdet's arguments that training and testing have in common."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and results go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override config settings, key=value; lists as key="[a,b]"')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher')
    # torch.distributed.launch passes it; torchrun sets the variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def fail(sentence: str) -> NoReturn:
    """End the program with one sentence and exit status 1."""
    sys.exit(f'error: {sentence}')


def load_config(args: Namespace) -> Config:
    """Read the config and merge the command line into it.

    The work directory is, in this order, ``--work-dir``, the config's, or
    ``work_dirs/<config's name>``, as in mmdet.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not osp.isfile(args.config):
        fail(f'config {args.config!r} does not exist')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def use_amp(cfg: Config) -> None:
    """Train in mixed precision: float16 on CUDA, bfloat16 on the CPU."""
    if torch.cuda.is_available():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    else:
        cfg.optim_wrapper.type = 'CPUAmpOptimWrapper'


def require_data(cfg: Config, *loaders: str) -> None:
    """Fail unless the files that these dataloaders read are there.

    Otherwise a missing data set ends in a traceback from a worker process.
    """
    for loader in loaders:
        for path in _paths(cfg.get(loader)):
            if not osp.exists(path):
                fail(f'{loader} needs {path!r}, which does not exist; '
                     f'{DATA_SECTION} tells where data goes')


def require_file(path: Optional[str], argument: str) -> None:
    """Fail unless ``path`` is a file (or lies behind a URL scheme)."""
    if path and '://' not in path and not osp.isfile(path):
        fail(f'{argument} {path!r} does not exist')


def _paths(node: Any) -> Iterator[str]:
    """Annotation files and data roots of a dataset config, wrappers
    included."""
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _paths(child)
    elif isinstance(node, dict):
        root = node.get('data_root') or ''
        if root:
            yield root
        for key, value in node.items():
            if key == 'ann_file' and isinstance(value, str) and value:
                yield osp.join(root, value)
            elif key in ('dataset', 'datasets'):
                yield from _paths(value)
