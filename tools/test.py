"""Test a detector with its config's metrics; arguments as in mmdet's
test.py."""
import argparse
from copy import deepcopy

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmtern.engine.cli import (add_common_arguments, fail, load_config,
                               require_data, require_file)
from mmtern.engine.distributed import leave_process_group
from mmtern.files import refuse_other_files


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
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
    args = parser.parse_args()
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


def test(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    require_data(cfg, 'test_dataloader')
    require_file(args.checkpoint, 'checkpoint')
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    if args.tta:
        use_test_time_augmentation(cfg)
    runner = (
        RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg))
    # A float model, too, must not run on a part of another one's file.
    refuse_other_files(getattr(runner.model, 'module', runner.model))
    if args.out is not None:
        runner.test_evaluator.metrics.append(
            DumpDetResults(out_file_path=args.out))
    runner.test()


def main() -> None:
    test(parse_args())
    leave_process_group()


if __name__ == '__main__':
    main()
