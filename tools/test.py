"""Test a detector with its config's metrics (AP); arguments as in mmdet's
test.py. The unit tests of mmtern itself are run by tools/test.sh."""
import argparse
from copy import deepcopy
from typing import Dict, Optional, Sequence

from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from mmtern.analysis.measure import summarize
from mmtern.analysis.shipped_size import size_to_ship
from mmtern.engine.checkpoints import read_checkpoint
from mmtern.engine.cli import (Parser, add_common_arguments, fail,
                               import_quietly, in_short, load_config,
                               mistakes_told, require_data, require_file,
                               require_keys, warn)
from mmtern.engine.distributed import leave_process_group
from mmtern.files import provenance, refuse_other_files
from mmtern.files.sizes import megabytes


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/test.py configs/tern_retinanet_r18-lite_shapes'
        '.py work_dirs/tern/epoch_12.pth')
    add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint or packed file')
    parser.add_argument('--out', help='write predictions to this .pkl file')
    parser.add_argument(
        '--show', action='store_true', help='show detections in a window')
    parser.add_argument('--show-dir', help='write painted images here')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds per shown image')
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation')
    args = parser.parse_args(argv)
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        fail(f'--out must end in .pkl or .pickle, but got {args.out!r}')
    return args


def use_test_time_augmentation(cfg: Config) -> None:
    """Wrap model and pipeline; a config without TTA settings gets mmdet's
    defaults, a horizontal flip merged by NMS."""
    tta_model = cfg.get(
        'tta_model',
        dict(
            type='DetTTAModel',
            tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    pipeline = cfg.get('tta_pipeline')
    if pipeline is None:
        pack = dict(
            type='PackDetInputs',
            meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                       'scale_factor', 'flip', 'flip_direction'))
        flips = [dict(type='RandomFlip', prob=p) for p in (1.0, 0.0)]
        pipeline = deepcopy(dataset.pipeline)
        pipeline[-1] = dict(type='TestTimeAug', transforms=[flips, [pack]])
    cfg.model = ConfigDict(**tta_model, module=cfg.model)
    dataset.pipeline = pipeline


def summary(metrics: Dict[str, float], model: nn.Module,
            size: Optional[int]) -> str:
    """The test in one line: accuracy, kind of weights, size of the file."""
    measured = summarize(model)
    kind = (f'ternary, {100 * measured["zeros"]:.1f} % zeros'
            if measured else 'float')
    packed = f', {megabytes(size)}' if size is not None else ''
    return f'test {in_short(metrics)}; {kind}{packed}'


def test(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    require_keys(cfg, args.config, 'model', 'test_dataloader',
                 'test_evaluator', 'test_cfg')
    require_data(cfg, 'test_dataloader')
    require_file(args.checkpoint, 'checkpoint')
    checkpoint = read_checkpoint(args.checkpoint)
    cfg.load_from = args.checkpoint
    plain = cfg.copy()
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    if args.show or args.show_dir:
        from mmdet.engine.hooks.utils import trigger_visualization_hook
        cfg = trigger_visualization_hook(cfg, args)
    if args.tta:
        use_test_time_augmentation(cfg)
    # Environment and config, some 400 lines, are in the training's log.
    level, cfg.log_level = cfg.get('log_level', 'INFO'), 'WARNING'
    runner = (
        RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg))
    for logger in (runner.logger, *runner.logger.handlers):
        logger.setLevel(level)
    model = getattr(runner.model, 'module', runner.model)
    provenance.check_fit(model, checkpoint, args.checkpoint)
    # A float model, too, must not run on a part of another one's file.
    refuse_other_files(model)
    if args.out is not None:
        from mmdet.evaluation import DumpDetResults
        runner.test_evaluator.metrics.append(
            DumpDetResults(out_file_path=args.out))
    metrics = runner.test()
    if runner.rank == 0:
        size = size_to_ship(args.checkpoint, model.cpu(), plain)
        print(summary(metrics, model, size), flush=True)
        sentence = provenance.warning(plain, checkpoint, args.checkpoint,
                                      args.config)
        other = provenance.other_classes(
            checkpoint['meta'].get('dataset_meta') or {},
            getattr(runner.test_dataloader.dataset, 'metainfo', {}),
            args.checkpoint)
        for told in filter(None, (sentence, other)):
            warn(told)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with mistakes_told():
        test(args)
    leave_process_group()


if __name__ == '__main__':
    main()
