"""Test an exported detector with its config's metrics, in onnxruntime, or
compare its boxes with the checkpoint's."""
import argparse
import os.path as osp
from typing import Any, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from rich.progress import track

from mmtern.engine.checkpoints import read_checkpoint
from mmtern.engine.cli import (Parser, add_common_arguments, fail,
                               import_quietly, in_short, load_config,
                               mistakes_told, only_warnings_logged,
                               require_data, require_file, require_keys, warn)
from mmtern.files import provenance
from mmtern.files.load import build_trained
from mmtern.files.sizes import megabytes


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/test_onnx.py configs/tern_retinanet_r18-lite_'
        'shapes.py tern.onnx')
    add_common_arguments(parser)
    parser.add_argument('onnx', help='file written by tools/export.py')
    parser.add_argument(
        '--against',
        metavar='CKPT',
        help='compare the boxes of each test image with this checkpoint\'s, '
        'run by PyTorch, instead of measuring metrics')
    return parser.parse_args(argv)


def against(args: argparse.Namespace, plain: Config, runner: Runner) -> str:
    """The boxes of both in one line."""
    from mmtern.deploy.equality import Equality
    with only_warnings_logged():
        model, _ = build_trained(plain, args.against)
    equality = Equality()
    dataset = runner.test_dataloader.dataset
    collate = runner.test_dataloader.collate_fn
    for index in track(range(len(dataset)), description='comparing'):
        equality.add(*(boxes_of(detector, collate([dataset[index]]))
                       for detector in (model, runner.model)))
    return equality.sentence()


@torch.no_grad()
def boxes_of(detector: Any, data: dict) -> tuple:
    """Boxes, scores and labels of one image, as ``DetInferencer`` has
    them."""
    found = detector.test_step(data)[0].pred_instances
    return tuple(x.numpy() for x in (found.bboxes, found.scores, found.labels))


def test(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    require_keys(cfg, args.config, 'model', 'test_dataloader',
                 'test_evaluator', 'test_cfg')
    require_data(cfg, 'test_dataloader')
    require_file(args.onnx, 'onnx')
    require_file(args.against, 'checkpoint')
    # Importing it registers OnnxDetector.
    from mmtern.deploy import check_onnx_packages
    from mmtern.deploy.detector import run_in_place
    check_onnx_packages()
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    plain = cfg.copy()
    run_in_place(cfg, args.onnx)
    # Environment and config, some 400 lines, are in the training's log.
    level, cfg.log_level = cfg.get('log_level', 'INFO'), 'WARNING'
    runner = Runner.from_cfg(cfg)
    for logger in (runner.logger, *runner.logger.handlers):
        logger.setLevel(level)
    if args.against:
        print(against(args, plain, runner), flush=True)
        sentence = provenance.warning(plain, read_checkpoint(args.against),
                                      args.against, args.config)
        if sentence:
            warn(sentence)
        return
    facts = runner.model.description
    dataset = runner.test_dataloader.dataset
    other = provenance.other_classes(facts, getattr(dataset, 'metainfo', {}),
                                     args.onnx)
    if other:
        fail(other)
    metrics = runner.test()
    print(
        f'test {in_short(metrics)}; ONNX, {facts["weights"]} weights, '
        f'{facts["activations"]} activations, '
        f'{megabytes(osp.getsize(args.onnx))}',
        flush=True)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with mistakes_told():
        test(args)


if __name__ == '__main__':
    main()
