"""Measure what 8-bit weights of +-127 and of +-1 do to a ternary detector in
OpenVINO, on this processor and on one without VNNI, and how fast OpenVINO
runs them.

OpenVINO is no requirement of mmtern: pip install openvino. Instructions are
capped by ONEDNN_MAX_CPU_ISA, which OpenVINO reads as it starts, so the two
processors are two runs of this tool:

    python tools/bench_saturation.py CONFIG CKPT
    ONEDNN_MAX_CPU_ISA=AVX2 python tools/bench_saturation.py CONFIG CKPT
"""
import argparse
import os
import os.path as osp
import tempfile
import time
from typing import Dict, List, Optional, Sequence

import numpy as np
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from mmtern.deploy import calibration_images, save_onnx
from mmtern.deploy.activations import LAYERS, Reader
from mmtern.engine.cli import (Parser, fail, import_quietly, mistakes_told,
                               read_config, require_data, require_file)
from mmtern.files.load import build_trained

IMAGES, ROUNDS = 8, 9


def generic(source: str, target: str, images: List[np.ndarray]) -> None:
    """onnxruntime's own static quantization, codes -127, 0 and 127."""
    ready = f'{source}.ready'
    quant_pre_process(source, ready, skip_symbolic_shape=True)
    quantize_static(
        ready,
        target,
        Reader(dict(image=image) for image in images),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*LAYERS, 'Relu', 'Add', 'MaxPool'],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='trained checkpoint')
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> None:
    try:
        import openvino
    except ModuleNotFoundError:
        fail('OpenVINO is not installed; run: pip install openvino')
    cfg = read_config(args.config, None)
    require_file(args.checkpoint, 'checkpoint')
    require_data(cfg, 'train_dataloader')
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    model, meta = build_trained(cfg, args.checkpoint)
    pixels = list(calibration_images(cfg, IMAGES))
    with tempfile.TemporaryDirectory() as folder:
        paths: Dict[str, str] = {}
        for name, options in (('float', dict(weights='float')),
                              ('+-1', dict(weights='int8',
                                           activations='int8')),
                              ('+-1 in 4 bits',
                               dict(weights='int4', activations='int8'))):
            paths[name] = osp.join(folder, f'{len(paths)}.onnx')
            save_onnx(
                model,
                cfg,
                paths[name],
                meta,
                images=pixels,
                raw=True,
                **options)
        images = [
            model.data_preprocessor(dict(inputs=[image],
                                         data_samples=None))['inputs'].numpy()
            for image in pixels
        ]
        paths['+-127'] = osp.join(folder, 'generic.onnx')
        generic(paths['float'], paths['+-127'], images)
        report(openvino.Core(), paths, images)


def report(core, paths: Dict[str, str], images: List[np.ndarray]) -> None:
    """Print cosines and speeds of these files in OpenVINO."""
    # Not bfloat16, which a capped OpenVINO 2026.4 cannot compile.
    core.set_property(
        'CPU', dict(INFERENCE_NUM_THREADS=1, INFERENCE_PRECISION_HINT='f32'))
    print('capped to', os.environ.get('ONEDNN_MAX_CPU_ISA', 'nothing'))
    compiled = {
        name: core.compile_model(path, 'CPU')
        for name, path in paths.items()
    }
    exact = compiled['float']
    true = [list(exact(image).values()) for image in images]
    for name, network in compiled.items():
        cosines, ratios = [], []
        for image, expected in zip(images, true):
            for a, b in zip(expected, network(image).values()):
                a, b = a.ravel().astype(float), b.ravel().astype(float)
                cosines.append(a @ b / np.sqrt((a @ a) * (b @ b)))
        for _ in range(ROUNDS):
            seconds = []
            for one in (exact, network):
                started = time.perf_counter()
                one(images[0])
                seconds.append(time.perf_counter() - started)
            ratios.append(seconds[0] / seconds[1])
        print(f'{name}: lowest cosine to float {min(cosines):.4f}, '
              f'{np.median(ratios):.2f} times as fast')


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with mistakes_told():
        measure(args)


if __name__ == '__main__':
    main()
