"""Train a detector, float or ternary; arguments as in mmdet's train.py."""
import argparse

from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmtern.engine.cli import (add_common_arguments, fail, load_config,
                               require_data, require_file, use_amp)
from mmtern.engine.distributed import leave_process_group, use_gloo_on_cpu
from mmtern.engine.resume import set_resume


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument(
        '--amp',
        action='store_true',
        help='automatic mixed precision: float16 on CUDA, bfloat16 on CPU')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='checkpoint to resume from; without a value, the latest one in '
        'the work directory')
    return parser.parse_args()


def train(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            fail('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size='
                 f'...) in {args.config}')
        cfg.auto_scale_lr.enable = True
    set_resume(cfg, args.resume)
    require_data(cfg, 'train_dataloader', 'val_dataloader')
    require_file(cfg.get('load_from'), 'load_from')
    use_gloo_on_cpu(cfg)
    runner = (
        RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg))
    try:
        runner.train()
    except FloatingPointError as error:
        fail(str(error))


def main() -> None:
    train(parse_args())
    leave_process_group()


if __name__ == '__main__':
    main()
