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


def read_config(name: str) -> Config:
    """A config file, or one of an installed package (``mmdet::...``)."""
    package, hub, path = name.partition('::')
    if not hub and not osp.isfile(name):
        fail(f'config {name!r} does not exist')
    if hub and '/' not in path:
        # mmengine's own sentence names neither the config nor the folder.
        fail(f'config {name!r} lacks its folder, as in '
             f'mmtern::configs/NAME.py or mmdet::retinanet/NAME.py')
    return get_config(name) if hub else Config.fromfile(name)


def main() -> None:
    args = parse_args()
    require_file(args.checkpoint, 'checkpoint')
    try:
        cfg = read_config(args.config)
        if args.cfg_options is not None:
            cfg.merge_from_dict(args.cfg_options)
        inspect_config(cfg, args.checkpoint, Console(), args.layers)
    except (ValueError, TypeError, KeyError, ImportError, OSError,
            AssertionError, AttributeError, SyntaxError) as error:
        # What users can get wrong in a config; mmengine wraps it in lines.
        fail(f'{args.config}: {" ".join(str(error).split())}')


if __name__ == '__main__':
    main()
