"""Measure what an exported detector weighs and how fast it runs, against its
float twin in the same onnxruntime.

Weights are random, which changes neither sizes nor speeds unless export leaves
layers of the trained detector in float: then name its --checkpoint. All files
of a case run in turn, so that other work on the machine meets all alike;
ratios are of neighbours. Files in --files are used again; lines of cases that
are not measured anew stay. AP stands in deploy_ap.jsonl, as tools/test_onnx.py
says it of trained detectors.
"""
import argparse
import io
import json
import os
import os.path as osp
import tempfile
import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

import matplotlib
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from PIL import Image
from rich.console import Console
from rich.table import Table

import mmtern
from mmtern.deploy import calibration_images, check_onnx_packages, save_onnx
from mmtern.deploy.activations import LAYERS
from mmtern.deploy.trace import Session
from mmtern.engine.cli import fail, import_quietly, require_file

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

RESULTS = osp.join(osp.dirname(osp.abspath(__file__)), 'results', 'deploy')
# Name, config, height and width in pixels.
CASES = [
    ('RetinaNet-R18 lite', 'configs/retinanet_r18-lite_bccd.py', 240, 320),
    ('Faster R-CNN-R18 lite', 'configs/faster_rcnn_r18-lite_bccd.py', 240,
     320),
    ('RetinaNet-R50', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 320,
     320),
    ('Faster R-CNN-R50', 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
     320, 320),
    ('YOLOX-Nano', 'configs/yolox_nano_voc07.py', 320, 320),
    ('RetinaNet-R50', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 800,
     1344),
    ('Faster R-CNN-R50', 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
     800, 1344),
]
# Name, whether ternary, and how it is written.
FILES = [
    ('float', False, dict(weights='float')),
    # Made of the first.
    ('float16 weights', False, None),
    ('8-bit weights and activations', False,
     dict(weights='int8', activations='int8')),
    ('mmtern, float activations', True, dict(weights='int2')),
    ('mmtern, 8-bit activations', True,
     dict(weights='int2', activations='int8')),
]
# Seconds for which a file runs before its turn's time is taken, and again.
BLOCK = 0.1


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--cases',
        nargs='+',
        help='those like "YOLOX-Nano, 320 x 320" that hold one of these')
    parser.add_argument(
        '--checkpoint',
        help='trained ternary detector of the one case in --cases; its float '
        "files have the weights that the case's config begins with")
    parser.add_argument(
        '--files', help='folder to keep the files in, and to take them from')
    parser.add_argument(
        '--only-write', action='store_true', help='write the files only')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', default=RESULTS, help='without ending')
    args = parser.parse_args()
    if args.rounds < 3:
        fail(f'--rounds must be at least 3, but got {args.rounds}')
    if args.checkpoint:
        require_file(args.checkpoint, '--checkpoint')
    return args


def model_of(config: str, ternary: bool, checkpoint: Optional[str]) -> Any:
    """A detector with random weights or, where there is a ternary checkpoint,
    with trained ones, and its config."""
    if config.startswith('mmdet::'):
        cfg = get_config(config)
    else:
        cfg = Config.fromfile(config)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    if ternary:
        mmtern.convert(model)
    if checkpoint:
        load_checkpoint(
            model,
            checkpoint if ternary else cfg.load_from,
            'cpu',
            strict=True,
            logger='silent')
    return model.eval(), cfg


def pictures(count: int, height: int, width: int) -> List[torch.Tensor]:
    """Made-up images, patches with noise."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width)) * 200
    images += torch.rand(images.shape, generator=generator) * 55
    return list(images.to(torch.uint8))


def halved(source: str, target: str) -> None:
    """Write a file's weights in float16, which engines turn back as they load
    it."""
    import onnx
    model = onnx.load(source)
    used = {
        node.input[1]
        for node in model.graph.node if node.op_type in LAYERS
    }
    for value in list(model.graph.initializer):
        if value.name in used:
            name = f'{value.name}_half'
            weight = onnx.numpy_helper.to_array(value).astype(np.float16)
            model.graph.initializer.remove(value)
            model.graph.initializer.append(
                onnx.numpy_helper.from_array(weight, name))
            model.graph.node.insert(
                0,
                onnx.helper.make_node(
                    'Cast', [name], [value.name], to=onnx.TensorProto.FLOAT))
    onnx.save(model, target)


def write_files(name: str, config: str, height: int, width: int,
                checkpoint: Optional[str], folder: str) -> List[str]:
    """The files of a case; those that are there are not written again."""
    paths = []
    if checkpoint:
        name += '_trained'
    for number, (_, ternary, options) in enumerate(FILES):
        path = osp.join(folder, f'{name.replace(" ", "_")}_{number}.onnx')
        paths.append(path)
        if osp.exists(path):
            continue
        if options is None:
            halved(paths[0], path)
            continue
        model, cfg = model_of(config, ternary, checkpoint)
        count = getattr(model, 'roi_head', model).bbox_head.num_classes
        images = pictures(4, min(height, 416), min(width, 416))
        if checkpoint:
            images = list(calibration_images(cfg))
        save_onnx(
            model,
            cfg,
            path,
            dict(classes=[str(i) for i in range(count)]),
            images=images,
            **options)
    return paths


def seconds(call: Callable[[], None], threads: int) -> float:
    """Median of calls one after another, for ``BLOCK`` seconds."""
    # Other work on the machine does not lengthen a thread's own time.
    now = time.thread_time if threads == 1 else time.perf_counter
    # Threads of the session before spin on for a while, and the own ones wake
    # up where they last were, which may be the main thread's processor.
    stop = time.perf_counter() + BLOCK
    call()
    while time.perf_counter() < stop:
        call()
    durations = []
    stop += BLOCK
    while not durations or time.perf_counter() < stop:
        started = now()
        call()
        durations.append(now() - started)
    return float(np.median(durations))


def measure(name: str, height: int, width: int, weights: str, paths: List[str],
            rounds: int, threads: int) -> List[Dict[str, Any]]:
    """A line for each file of a case."""
    images = pictures(1, height, width)
    jpeg = io.BytesIO()
    Image.fromarray(images[0].permute(1, 2, 0).numpy()).save(jpeg, 'JPEG')
    sessions = [Session(path, threads) for path in paths]
    lines = [
        dict(
            case=name,
            file=file,
            size=[height, width],
            threads=threads,
            weights=weights,
            bytes=osp.getsize(path)) for (file, *_), path in zip(FILES, paths)
    ]
    graph = np.zeros((len(sessions), rounds))
    program = np.zeros((len(sessions), rounds))
    image = dict(image=images[0][None].numpy())

    def network(session: Session) -> None:
        session.run(image)

    def from_jpeg(session: Session) -> None:
        pixels = np.asarray(Image.open(jpeg)).transpose(2, 0, 1)
        session.run(dict(image=np.ascontiguousarray(pixels[None])))

    for turn in range(rounds):
        for index, session in enumerate(sessions):
            graph[index, turn] = seconds(partial(network, session), threads)
            program[index,
                    turn] = seconds(partial(from_jpeg, session), threads)
    for index, line in enumerate(lines):
        ratios = graph[0] / graph[index]
        line.update(
            milliseconds=round(1e3 * float(np.median(graph[index])), 2),
            speed=[
                round(float(q), 3)
                for q in np.quantile(ratios, (0.25, 0.5, 0.75))
            ],
            program=round(float(np.median(program[0] / program[index])), 3))
    return lines


def title(line: Dict[str, Any]) -> str:
    """The case of a line."""
    height, width = line['size']
    trained = ', trained' * (line.get('weights') == 'trained')
    return f'{line["case"]}{trained}, {height} x {width}'


def measured_ap() -> Dict[Tuple[str, str], float]:
    """AP by case and file."""
    with open(f'{RESULTS}_ap.jsonl', encoding='utf-8') as file:
        lines = [json.loads(line) for line in file]
    return {(line['case'], line['file']): line['AP'] for line in lines}


def table_of(lines: List[Dict[str, Any]]) -> List[List[str]]:
    """Cells of the table, a row a case and number of threads."""
    aps = measured_ap()
    groups: Dict[Tuple[str, int], Dict[str, Dict[str, Any]]] = {}
    for line in lines:
        group = groups.setdefault((title(line), line['threads']), {})
        group[line['file']] = line
    names = [name for name, *_ in FILES]
    rows = []
    for (case, threads), files in groups.items():
        plain, ours = files[names[0]], files[names[-1]]
        cells = [
            f'{plain["bytes"] / line["bytes"]:.1f}x, {line["speed"][1]:.2f}x'
            if line else '-' for line in map(files.get, names[1:])
        ]
        cells[-1] += f' ({ours["speed"][0]:.2f}-{ours["speed"][2]:.2f})'
        both = [aps.get((ours['case'], name)) for name in names[-2:]]
        known = [f'{ap:.1f}' for ap in both if ap is not None]
        rows.append([
            case, f'{threads}', f'{plain["bytes"] / 1e6:.1f} MB', *cells,
            f'{ours["program"]:.2f}x', ', '.join(known) or '-'
        ])
    return rows


HEAD = ('detector', 'threads', 'float', 'float16', 'float, 8 bits', 'mmtern',
        'mmtern, 8 bits', 'from JPEG', 'AP')
PAGE = """# Size and speed in onnxruntime

`python tools/bench_deploy.py` wrote this page. Of each file: how many times
smaller it is than the float file, and how many times as fast its network is in
the same onnxruntime, in turn in one process (quartiles in brackets). Files:
float; float16 weights; the float detector with onnxruntime's own 8 bits;
ternary weights with float and with 8-bit activations. From JPEG: the last
one's whole program, decoding to boxes, against float's. AP: with float and
with 8-bit activations, of a trained detector; all else is measured with random
weights unless a row says that they are trained. The lines beside this page
hold bytes, milliseconds and each file's quartiles.

![Size against latency](deploy.png)

"""


def write(lines: List[Dict[str, Any]], out: str) -> None:
    """Page in Markdown and plot of the lines."""
    with open(f'{out}.md', 'w', encoding='utf-8') as file:
        file.write(f'{PAGE}| {" | ".join(HEAD)} |\n|{"---|" * len(HEAD)}\n')
        for row in table_of(lines):
            file.write(f'| {" | ".join(row)} |\n')
    figure, axes = plt.subplots(figsize=(7, 4.5))
    aps = measured_ap()
    for (name, *_), marker in zip(FILES, 'ovs^D'):
        own = [
            line for line in lines
            if line['file'] == name and line['threads'] == 1
        ]
        # Area by AP, where it is known.
        areas = [aps.get((line['case'], name)) for line in own]
        axes.scatter([line['bytes'] / 1e6 for line in own],
                     [line['milliseconds'] for line in own],
                     s=[20 if area is None else 4 * area for area in areas],
                     marker=marker,
                     alpha=0.7,
                     label=name)
    axes.set(
        xscale='log',
        yscale='log',
        xlabel='file, MB',
        ylabel='one image, ms, boxes included',
        title='1 thread; larger: more AP, where it is known')
    axes.legend()
    figure.tight_layout()
    figure.savefig(f'{out}.png', dpi=120)
    plt.close(figure)


def main() -> None:
    args = parse_args()
    try:
        check_onnx_packages()
    except ImportError as error:
        fail(str(error))
    import_quietly('mmdet.datasets', 'mmdet.evaluation')
    init_default_scope('mmdet')
    MMLogger.get_instance('bench', log_level='ERROR')
    torch.set_num_threads(args.threads)
    cases = [
        case for case in CASES if not args.cases or any(
            part.lower() in f'{case[0]}, {case[2]} x {case[3]}'.lower()
            for part in args.cases)
    ]
    if not cases:
        fail(f'--cases {args.cases} holds no part of '
             f'{", ".join(case[0] for case in CASES)}')
    if args.checkpoint and len(cases) != 1:
        fail('--checkpoint goes with one case, but --cases holds '
             f'{", ".join(case[0] for case in cases)}')
    lines: List[Dict[str, Any]] = []
    if osp.exists(f'{args.out}.jsonl'):
        with open(f'{args.out}.jsonl', encoding='utf-8') as file:
            lines = [json.loads(line) for line in file]
    order = [(name, height, width) for name, _, height, width in CASES]
    if args.files:
        os.makedirs(args.files, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, config, height, width in cases:
            paths = write_files(name, config, height, width, args.checkpoint,
                                args.files or folder)
            if args.only_write:
                continue
            new = measure(name, height, width,
                          'trained' if args.checkpoint else 'random', paths,
                          args.rounds, args.threads)
            mine = (name, [height, width], args.threads)
            lines = new + [
                line for line in lines
                if (line['case'], line['size'], line['threads']) != mine
            ]
            lines.sort(key=lambda line: (order.index(
                (line['case'], *line['size'])), line['threads']))
            with open(f'{args.out}.jsonl', 'w', encoding='utf-8') as file:
                file.writelines(json.dumps(line) + '\n' for line in lines)
            write(lines, args.out)
    table = Table(*HEAD)
    for row in table_of(lines):
        table.add_row(*row)
    Console(width=130).print(table)


if __name__ == '__main__':
    main()
