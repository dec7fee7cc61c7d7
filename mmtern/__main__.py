"""``python -m mmtern inspect CONFIG [CKPT]``."""
import argparse
import os.path as osp

from mmengine.config import Config, DictAction
from mmengine.hub import get_config
from rich.console import Console

from .analysis.inspection import inspect_config
from .engine.cli import fail, require_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m mmtern')
    commands = parser.add_subparsers(dest='command', required=True)
    inspect = commands.add_parser(
        'inspect',
        help='what a config makes ternary, what not and why, and the sizes')
    inspect.add_argument(
        'config', help='config file, or package::path as in mmengine.hub')
    inspect.add_argument(
        'checkpoint', nargs='?', help='float or ternary checkpoint')
    inspect.add_argument(
        '--layers', action='store_true', help='one row a layer')
    inspect.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override config settings, key=value')
    return parser.parse_args()


def read_config(args: argparse.Namespace) -> Config:
    """A config file, or one of an installed package (``mmdet::...``), with
    the command line's options in it."""
    name = args.config
    package, hub, path = name.partition('::')
    if not hub and not osp.isfile(name):
        fail(f'config {name!r} does not exist')
    if hub and '/' not in path:
        # mmengine's own sentence names neither the config nor the folder.
        fail(f'config {name!r} lacks its folder, as in '
             f'mmtern::configs/NAME.py or mmdet::retinanet/NAME.py')
    try:
        cfg = get_config(name) if hub else Config.fromfile(name)
        if args.cfg_options is not None:
            cfg.merge_from_dict(args.cfg_options)
    except Exception as error:
        # A config is Python of the user's, and can fail in any way.
        fail(f'{name}: {type(error).__name__}: {_one_line(error)}')
    return cfg


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())


def main() -> None:
    args = parse_args()
    require_file(args.checkpoint, 'checkpoint')
    cfg = read_config(args)
    try:
        inspect_config(cfg, args.checkpoint, Console(), args.layers)
    except (ValueError, OSError) as error:
        fail(f'{args.config}: {_one_line(error)}')


if __name__ == '__main__':
    main()
