"""Draw a training's curves, weights, sizes and detections into one HTML
page."""
import argparse
import io
import os.path as osp
from contextlib import redirect_stdout

from mmengine.logging import MMLogger
from rich.console import Console

from mmtern.engine.cli import fail


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='work directory of the training')
    parser.add_argument(
        '--float', dest='float_dir', help='work directory of its float twin')
    parser.add_argument(
        '--images', type=int, default=4, help='test images to show, or 0')
    parser.add_argument(
        '--out', help='defaults to report.html in the work directory')
    args = parser.parse_args()
    if args.images < 0:
        fail(f'--images must be 0 or more, but got {args.images}')
    if args.out is None:
        args.out = osp.join(args.work_dir, 'report.html')
    return args


def main() -> None:
    args = parse_args()
    # The models are built once more; their tables are in the training's log.
    MMLogger.get_instance('report', log_level='ERROR')
    try:
        from mmtern.report import write_report
    except ModuleNotFoundError as error:
        if error.name not in ('plotly', 'jinja2'):
            raise
        fail(f'{error.name} is not installed; run '
             '"pip install plotly jinja2"')
    try:
        # pycocotools and mmengine's loader print.
        with redirect_stdout(io.StringIO()):
            missing = write_report(args.work_dir, args.out, args.float_dir,
                                   args.images)
    except (ValueError, OSError) as error:
        fail(' '.join(str(error).split()))
    console = Console(highlight=False)
    for sentence in missing:
        console.print(sentence)
    console.print(f'report {args.out}')


if __name__ == '__main__':
    main()
