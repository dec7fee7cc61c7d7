"""Draw test images with their objects and with what detectors find, a row
each, with AP and size of the file in the titles."""
import argparse
import io
from contextlib import redirect_stdout
from typing import List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mmtern.engine.cli import (Parser, fail, import_quietly, mistakes_told,
                               only_warnings_logged, read_config, require_data,
                               require_file, warn)

# Okabe and Ito's, told apart with any colour vision.
COLORS = ('#e69f00', '#56b4e9', '#cc79a7', '#f0e442', '#009e73', '#d55e00')
STYLE = {'font.size': 11, 'axes.titlesize': 12, 'axes.titlelocation': 'left'}


class Row(NamedTuple):
    """A row of the picture: title, boxes of each image, and whether they are
    the truth."""
    title: str
    found: list
    is_truth: bool


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/draw_detections.py out.png --model ternary '
        'configs/tern_retinanet_r18-lite_shapes.py work_dirs/tern/epoch_12.pth'
    )
    parser.add_argument('out', help='picture to write, .png or .jpg')
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        required=True,
        metavar=('TITLE', 'CONFIG', 'CHECKPOINT'),
        help='a detector; give it several times to compare')
    parser.add_argument(
        '--images', type=int, default=4, help='images side by side')
    parser.add_argument(
        '--test-images',
        type=int,
        default=1000,
        help='images of the test set to measure AP on, at most')
    parser.add_argument(
        '--crop',
        action='store_true',
        help='show two thirds of width and height, where most objects are')
    args = parser.parse_args(argv)
    if args.images < 1 or args.test_images < args.images:
        fail('--images must be at least 1, and --test-images at least as '
             f'many, but got {args.images} and {args.test_images}')
    return args


def telling(truth: Sequence, count: int) -> List[int]:
    """Images of most classes, then of most objects, but of no more than the
    usual number, which would hide each other; in the order of the data
    set."""
    numbers = np.array([len(boxes.labels) for boxes in truth])
    kinds = [len(set(boxes.labels)) for boxes in truth]
    most = max(np.median(numbers), 1)
    order = sorted(
        range(len(numbers)),
        key=lambda i: (numbers[i] > most, -kinds[i], -numbers[i], i))
    return sorted(order[:count])


def window(shape: Tuple[int, ...], boxes, crop: bool) -> Tuple[int, ...]:
    """Left, top, width and height of what is shown of an image: all, or the
    part of two thirds' width and height that holds most classes, then most
    whole objects."""
    height, width = shape[:2]
    if not crop:
        return 0, 0, width, height
    size = np.array([width, height]) * 2 // 3
    best, chosen = (-1, -1), (0, 0)
    for x in np.linspace(0, width - size[0], 9, dtype=int):
        for y in np.linspace(0, height - size[1], 9, dtype=int):
            low, high = boxes.corners[:, :2], boxes.corners[:, 2:]
            whole = ((low >= (x, y)) & (high <= size + (x, y))).all(1)
            held = (len(set(boxes.labels[whole])), int(whole.sum()))
            if held > best:
                best, chosen = held, (x, y)
    return (*chosen, *size)


def draw(rows: List[Row], tests, chosen: List[int], crop: bool,
         out: str) -> None:
    """Write the picture."""
    from mmtern.analysis.evaluation import match
    shown = [cv2.imread(tests.paths[index])[..., ::-1] for index in chosen]
    frames = [
        window(image.shape, tests.truth[index], crop)
        for image, index in zip(shown, chosen)
    ]
    share = max(frame[3] / frame[2] for frame in frames)
    width = 12.0
    height = len(rows) * (width / len(chosen) * share + 0.42) + 0.45
    with rc_context(STYLE):
        figure = Figure((width, height), layout='constrained')
        figure.set_facecolor('white')
        axes = figure.subplots(len(rows), len(chosen), squeeze=False)
        for row, line in zip(rows, axes):
            for column, axis in enumerate(line):
                x, y, wide, high = frames[column]
                axis.imshow(shown[column])
                axis.set(
                    xlim=(x, x + wide),
                    ylim=(y + high, y),
                    xticks=[],
                    yticks=[])
                axis.spines[:].set_visible(False)
                index = chosen[column]
                truth, found = tests.truth[index], row.found[index].confident()
                if row.is_truth:
                    _outline(axis, truth, range(len(truth.labels)), '-')
                    continue
                taken = match(truth, found)
                _outline(axis, found, np.flatnonzero(taken >= 0), '-')
                _outline(axis, found, np.flatnonzero(taken < 0), '--')
                missed = np.setdiff1d(np.arange(len(truth.labels)), taken)
                _outline(axis, truth, missed, ':', 'white')
            line[0].set_title(row.title, fontweight='bold')
        handles = [
            Patch(color=COLORS[i % len(COLORS)], label=name)
            for i, name in enumerate(tests.classes)
        ]
        for style, name in (('--', 'no such object'), (':', 'missed')):
            handles.append(
                Patch(fill=False, edgecolor='#444444', ls=style, label=name))
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncol=min(len(handles), 8),
            frameon=False)
        figure.savefig(out, dpi=100)


def _outline(axis, boxes, rows, style: str, color: Optional[str] = None):
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    for row in rows:
        x0, y0, x1, y1 = boxes.corners[row]
        if not (left < (x0 + x1) / 2 < right and top < (y0 + y1) / 2 < bottom):
            # Of an object beside the part that is shown.
            continue
        own = COLORS[boxes.labels[row] % len(COLORS)]
        for edge, width, dashes in (('black', 3.2, '-'), (color
                                                          or own, 1.8, style)):
            axis.add_patch(
                Rectangle((x0, y0),
                          x1 - x0,
                          y1 - y0,
                          fill=False,
                          edgecolor=edge,
                          lw=width,
                          ls=dashes))


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with mistakes_told():
        import_quietly('mmdet.datasets', 'mmdet.evaluation')
        from mmtern.analysis.evaluation import read_ground_truth, run_detector
        from mmtern.analysis.shipped_size import size_to_ship
        from mmtern.engine.checkpoints import read_checkpoint
        from mmtern.files import provenance
        from mmtern.files.container import check_target
        from mmtern.files.load import build_trained
        from mmtern.files.sizes import megabytes
        check_target(args.out, force=True)
        configs = []
        for _, config, checkpoint in args.model:
            configs.append(read_config(config, None))
            require_file(checkpoint, 'checkpoint')
        require_data(configs[0], 'test_dataloader')
        # pycocotools and mmengine's loader print.
        with redirect_stdout(io.StringIO()):
            tests = read_ground_truth(configs[0], args.test_images)
        rows = [Row('ground truth', tests.truth, True)]
        for cfg, (title, config, checkpoint) in zip(configs, args.model):
            with only_warnings_logged(), redirect_stdout(io.StringIO()):
                found = run_detector(title, cfg, checkpoint, tests)
                model, _ = build_trained(cfg, checkpoint)
            size = size_to_ship(checkpoint, model, cfg)
            told = f', {megabytes(size)}' if size else ''
            rows.append(
                Row(f'{title}: AP {found.accuracy.ap:.1f}{told}', found.found,
                    False))
            print(rows[-1].title, flush=True)
            caution = provenance.warning(cfg, read_checkpoint(checkpoint),
                                         checkpoint, config)
            if caution:
                warn(caution)
        draw(rows, tests, telling(tests.truth, args.images), args.crop,
             args.out)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
