"""Test an exported detector with its config's metrics, in onnxruntime."""
import argparse

from mmengine.runner import Runner

from mmtern.engine.cli import (add_common_arguments, fail, load_config,
                               require_data, require_file)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument('onnx', help='file written by tools/export.py')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    require_data(cfg, 'test_dataloader')
    require_file(args.onnx, 'onnx')
    try:
        # Importing it registers OnnxDetector.
        from mmtern.deploy import check_onnx_packages
        check_onnx_packages()
        cfg.model = dict(
            type='mmdet.OnnxDetector', onnx=args.onnx, detector=cfg.model)
        cfg.load_from = None
        # Hooks that look after ternary layers have nothing to do here.
        cfg.custom_hooks = []
        runner = Runner.from_cfg(cfg)
    except (ImportError, ValueError, OSError) as error:
        fail(str(error))
    runner.test()


if __name__ == '__main__':
    main()
