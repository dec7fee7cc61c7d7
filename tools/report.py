"""Draw a training's curves, weights, sizes and detections into one HTML
page."""
import argparse
import io
import os.path as osp
from contextlib import redirect_stdout
from typing import Optional, Sequence

from mmengine.logging import MMLogger
from rich.console import Console

from mmtern.engine.cli import Parser, fail, import_quietly, mistakes_told


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/report.py work_dirs/demo/ternary '
        '--float work_dirs/demo/float')
    parser.add_argument('work_dir', help='work directory of the training')
    parser.add_argument(
        '--float', dest='float_dir', help='work directory of its float twin')
    parser.add_argument(
        '--images', type=int, default=4, help='test images to show, or 0')
    parser.add_argument(
        '--out', help='defaults to report.html in the work directory')
    args = parser.parse_args(argv)
    if args.images < 0:
        fail(f'--images must be 0 or more, but got {args.images}')
    if args.out is None:
        args.out = osp.join(args.work_dir, 'report.html')
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    # The models are built once more; their tables are in the training's log.
    MMLogger.get_instance('report', log_level='ERROR')
    try:
        import_quietly('mmdet.datasets', 'mmdet.evaluation')
        from mmtern.report import write_report
    except ModuleNotFoundError as error:
        if error.name not in ('plotly', 'jinja2'):
            raise
        fail(f'{error.name} is not installed; run '
             '"pip install plotly jinja2"')
    # pycocotools and mmengine's loader print.
    with mistakes_told(), redirect_stdout(io.StringIO()):
        missing = write_report(args.work_dir, args.out, args.float_dir,
                               args.images)
    console = Console(highlight=False)
    for sentence in missing:
        console.print(sentence)
    console.print(
        f'wrote {args.out}; open file://{osp.abspath(args.out)}',
        soft_wrap=True)


if __name__ == '__main__':
    main()
