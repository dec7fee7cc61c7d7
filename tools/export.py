"""Turn a trained ternary detector into one small file: packed safetensors
for PyTorch, or ONNX."""
import argparse
import os.path as osp
import shlex
from functools import partial
from typing import Optional, Sequence

from rich.console import Console
from rich.progress import track

from mmtern.engine.checkpoints import read_checkpoint
from mmtern.engine.cli import (Parser, add_config_options, fail,
                               import_quietly, load_config, mistakes_told,
                               only_warnings_logged, require_file,
                               require_keys, warn)
from mmtern.files import provenance, save_packed
from mmtern.files.container import check_target
from mmtern.files.encode import ENCODINGS
from mmtern.files.load import build_trained
from mmtern.files.packed import DTYPES, PREDICTION_FORMATS
from mmtern.files.sizes import megabytes

PACKED_ONLY = ('encoding', 'dtype', 'predictions')
ONNX_ONLY = ('weights', 'activations', 'input_size', 'pixels', 'keep', 'raw')
CALIBRATION_ONLY = ('calibrate', 'images')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/export.py configs/tern_retinanet_r18-lite_'
        'shapes.py work_dirs/tern/epoch_12.pth tern.safetensors')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='trained checkpoint')
    parser.add_argument('out', help='OUT.safetensors or OUT.onnx')
    parser.add_argument(
        '--force', action='store_true', help='replace an existing OUT')
    add_config_options(parser)
    packed = parser.add_argument_group('for .safetensors')
    packed.add_argument(
        '--encoding',
        choices=ENCODINGS,
        help='zstd (default), or 2bit: four ternary weights a byte')
    packed.add_argument(
        '--dtype',
        choices=DTYPES,
        help='of float weights that are not ternary (default float32); '
        'float16 is smaller and no longer exact')
    packed.add_argument(
        '--predictions',
        choices=PREDICTION_FORMATS,
        help='int8 rounds the prediction layers to 8 bits a channel (default '
        'float); smaller and no longer exact')
    onnx = parser.add_argument_group('for .onnx')
    onnx.add_argument(
        '--weights',
        choices=('int2', 'int4', 'int8', 'float'),
        help='ternary weights as INT2 (default; opset 25, onnxruntime >= '
        '1.24), INT4 (opset 21), INT8 (opset 17) or float')
    onnx.add_argument(
        '--activations',
        choices=('int8', 'float'),
        help='int8 (default, but for --raw): faster, measured on training '
        'images; float: equal to the checkpoint')
    onnx.add_argument(
        '--calibrate',
        type=int,
        metavar='N',
        help='images to measure 8-bit activations with (default 32)')
    onnx.add_argument(
        '--images',
        metavar='FOLDER',
        help='take these instead of the config\'s training images')
    onnx.add_argument(
        '--pixels',
        choices=('uint8', 'float32'),
        help='type of the image that the graph takes, 0 to 255 (default '
        'uint8)')
    onnx.add_argument(
        '--keep',
        nargs='+',
        metavar='PATTERN',
        help='layers that compute in float, by regular expressions')
    onnx.add_argument(
        '--raw',
        action='store_true',
        default=None,
        help='the head\'s outputs instead of boxes, for tools/test_onnx.py')
    onnx.add_argument(
        '--input-size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='the one size of padded images to take, multiples of 32 pixels '
        '(default: any size)')
    args = parser.parse_args(argv)
    args.launcher = 'none'
    args.local_rank = 0
    args.work_dir = None
    return args


def _set_activations(args: argparse.Namespace, options: dict) -> None:
    """Choose the default activations, and refuse what does not go with
    them."""
    exact = args.raw or args.weights == 'float'
    options.setdefault('activations', 'float' if exact else 'int8')
    for name in CALIBRATION_ONLY:
        if (getattr(args, name) is not None
                and options['activations'] == 'float'):
            fail(f'--{name} does not apply to float activations')
    if args.calibrate is not None and args.calibrate < 1:
        fail(f'--calibrate must be at least 1, but got {args.calibrate}')


def export(args: argparse.Namespace) -> None:
    to_onnx = args.out.endswith('.onnx')
    if not to_onnx and not args.out.endswith('.safetensors'):
        fail(f'OUT must end in .safetensors or .onnx, but got {args.out!r}')
    others = PACKED_ONLY if to_onnx else ONNX_ONLY + CALIBRATION_ONLY
    for name in others:
        if getattr(args, name) is not None:
            option = name.replace('_', '-')
            fail(f'--{option} does not apply to {args.out!r}')
    cfg = load_config(args)
    require_keys(cfg, args.config, 'model')
    require_file(args.checkpoint, 'checkpoint')
    names = ONNX_ONLY if to_onnx else PACKED_ONLY
    options = {name: getattr(args, name) for name in names}
    options = {k: v for k, v in options.items() if v is not None}
    if to_onnx:
        _set_activations(args, options)
    try:
        check_target(args.out, args.force)
    except FileExistsError as error:
        fail(f'{error}; --force replaces it')
    save = save_packed
    if to_onnx:
        # The extra's packages are needed for this format only.
        from mmtern.deploy import (calibration_images, check_onnx_packages,
                                   save_onnx)
        from mmtern.deploy.calibration import COUNT
        check_onnx_packages()
        save = save_onnx
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    checkpoint = read_checkpoint(args.checkpoint)
    other = provenance.other_settings(cfg, checkpoint, args.checkpoint,
                                      args.config)
    if other:
        fail(other)
    caution = provenance.warning(cfg, checkpoint, args.checkpoint, args.config)
    if caution:
        # The file itself says so where it is used.
        cfg[provenance.UNTRAINED] = True
    # What is ternary was in the training's log and is in the table below.
    with only_warnings_logged():
        model, meta = build_trained(cfg, args.checkpoint)
    if options.get('activations') == 'int8':
        options['images'] = list(
            calibration_images(cfg, args.calibrate or COUNT, args.images))
        options['progress'] = partial(track, description='calibrating')
    sizes = save(model, cfg, args.out, meta, force=args.force, **options)
    console = Console(highlight=False)
    console.print(sizes.table())
    for remark in sizes.remarks():
        console.print(remark, soft_wrap=True)
    paths = [graph.path for graph in sizes.graphs] if to_onnx else [args.out]
    size = sum(map(osp.getsize, paths))
    before = sum(x.nbytes for x in model.state_dict().values())
    exact = '' if to_onnx or sizes.notes else ', equal bit by bit'
    tester = 'test_onnx.py' if to_onnx else 'test.py'
    test = shlex.join(['python', f'tools/{tester}', args.config, args.out])
    settings = provenance.as_options(args.cfg_options or {})
    console.print(
        f'wrote {", ".join(paths)}: {megabytes(size)}, {before / size:.1f}x '
        f'smaller{exact}; test it: {test}{settings and " " + settings}',
        soft_wrap=True)
    if caution:
        warn(caution)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with mistakes_told():
        export(args)


if __name__ == '__main__':
    main()
