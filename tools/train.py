"""Train a detector, float or ternary; arguments as in mmdet's train.py."""
import argparse
import logging
import shlex
import sys
from typing import List, Optional, Sequence

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from mmtern.convert import ternary_layers
from mmtern.engine.checkpoints import read_checkpoint
from mmtern.engine.cli import (Parser, add_common_arguments, fail,
                               import_quietly, load_config, mistakes_told,
                               require_data, require_file, require_keys,
                               require_load_from, require_model, use_amp)
from mmtern.engine.distributed import leave_process_group, use_gloo_on_cpu
from mmtern.engine.resume import set_resume
from mmtern.files import provenance

# What stays in the file: a line for each norm and bias, and what mmengine says
# of its own calls.
UNTOLD = ('paramwise_options', '"FileClient" will be deprecated',
          '"HardDiskBackend" is the alias')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/train.py configs/retinanet_r18-lite_shapes.py '
        '--work-dir work_dirs/float')
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
    return parser.parse_args(argv)


def remarks(cfg: Config, model: nn.Module, config: str) -> List[str]:
    """Return a sentence where the checkpoint of ``load_from`` does not fit."""
    path = cfg.get('load_from')
    # TernaryScheduleHook warns where it is missing.
    if cfg.get('resume') or not path or '://' in path:
        return []
    checkpoint = read_checkpoint(path)
    left = provenance.layers_left_out(model, checkpoint, path)
    if left:
        return [f'{left}, which start untrained']
    # A float checkpoint is what a ternary training starts from.
    sentence = None if ternary_layers(model) else provenance.warning(
        cfg, checkpoint, path, config)
    return [sentence] if sentence else []


def _is_told(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(UNTOLD)


def train(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    require_keys(cfg, args.config, 'model', 'train_dataloader', 'train_cfg',
                 'optim_wrapper')
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            fail('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size='
                 f'...) in {args.config}')
        cfg.auto_scale_lr.enable = True
    if args.resume != 'auto':
        require_file(args.resume, '--resume')
    set_resume(cfg, args.resume)
    require_data(cfg, 'train_dataloader', 'val_dataloader')
    require_load_from(cfg.get('load_from'), args.config)
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    # The model goes again before the runner builds its own.
    found = remarks(cfg, require_model(cfg, args.config, training=True),
                    args.config)
    use_gloo_on_cpu(cfg)
    runner = (
        RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg))
    for handler in runner.logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(_is_told)
    # For whoever, or whatever, reads the log.
    runner.logger.info(f'Command: {shlex.join(["python", *sys.argv])}')
    for sentence in found:
        runner.logger.warning(sentence)
    runner.train()


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with mistakes_told():
        train(args)
    leave_process_group()


if __name__ == '__main__':
    main()
