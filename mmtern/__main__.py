"""``python -m mmtern inspect CONFIG [CKPT]``."""
import argparse
from typing import Optional, Sequence

from rich.console import Console

from .analysis.inspection import inspect_config
from .engine.cli import (Parser, add_config_options, mistakes_told,
                         read_config, require_file)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    example = 'python -m mmtern inspect mmdet::retinanet/' \
        'retinanet_r50_fpn_1x_coco.py'
    parser = Parser(
        'Look at a config before training it.',
        example,
        prog='python -m mmtern')
    commands = parser.add_subparsers(dest='command', required=True)
    inspect = commands.add_parser(
        'inspect',
        help='show what a config makes ternary, what not and why, and the '
        'sizes',
        description='Show what a config makes ternary, what not and why, and '
        'the sizes of its files.',
        example=example)
    inspect.add_argument(
        'config', help='config file, or package::path as in mmengine.hub')
    inspect.add_argument(
        'checkpoint', nargs='?', help='float or ternary checkpoint')
    inspect.add_argument(
        '--layers', action='store_true', help='one row a layer')
    add_config_options(inspect)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    require_file(args.checkpoint, 'checkpoint')
    cfg = read_config(args.config, args.cfg_options)
    with mistakes_told(args.config):
        inspect_config(cfg, args.checkpoint, Console(), args.layers)


if __name__ == '__main__':
    main()
