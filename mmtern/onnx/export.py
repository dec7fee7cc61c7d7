"""Write a detector as ONNX."""
import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from ..checks import check_choice
from ..convert import ternary_layers
from ..files.atomic import check_target, write_atomically
from ..files.config_text import config_to_text
from ..files.sizes import Sizes
from .integers import OPSETS, WEIGHTS, use_integers
from .networks import DenseNetwork, RoINetwork, check_supported, plain_copy
from .size_table import GraphSize, OnnxSizeTable
from .trace import run, trace

# Image to trace with where any size will do.
_EXAMPLE_SIZE = (256, 320)
# Feature maps of 1/32 and of 1/64 and 1/128 by padded convs.
_DIVISOR = 32
# Between float32 engines, relative to the largest output.
_TOLERANCE = 1e-4
METADATA_KEY = 'mmtern'


def roi_path(path: str) -> str:
    """Where the second graph of a two-stage detector lies."""
    return f'{path[:-len(".onnx")]}.roi.onnx'


def save_onnx(model: nn.Module,
              cfg: Config,
              path: str,
              dataset_meta: Dict[str, Any],
              weights: str = 'int2',
              input_size: Optional[Sequence[int]] = None,
              force: bool = False) -> OnnxSizeTable:
    """Write a trained detector as ONNX, to be run by
    :class:`mmtern.onnx.OnnxDetector` or any engine.

    The graph takes normalized images, as mmdet's data preprocessor hands them
    on, and puts out what the dense head does; of a two-stage detector a
    second graph, ``OUT.roi.onnx``, maps RoI features to scores and boxes.
    Both are run once and compared with PyTorch before they are written.

    Args:
        model (nn.Module): Trained, on the CPU.
        cfg (Config): Its config, stored in the graph's metadata.
        path (str): Target, ending in ``.onnx``.
        dataset_meta (dict): Class names.
        weights (str): Ternary weights as 'int2' (opset 25), 'int4' (opset 21)
            or 'float' (opset 17).
        input_size (Sequence[int], optional): Height and width in pixels,
            multiples of 32, of the only images to take. Defaults to None:
            any size.
        force (bool): Replace existing files.

    Raises:
        ValueError: For a bad argument, a detector whose decoding is not
            known, or a graph that computes something else.
        FileExistsError: If a target exists and ``force`` is not set.
    """
    check_choice('weights', weights, WEIGHTS)
    if input_size is not None and (len(input_size) != 2
                                   or any(side < _DIVISOR or side % _DIVISOR
                                          for side in input_size)):
        raise ValueError('input_size must be height and width, positive '
                         f'multiples of {_DIVISOR}, but got {input_size}')
    check_supported(model)
    text = config_to_text(cfg)
    plain = plain_copy(model)
    for parameter in plain.parameters():
        parameter.requires_grad_(False)
    dense = DenseNetwork(plain).eval()
    targets = [path, roi_path(path)] if dense.with_features else [path]
    for target in targets:
        check_target(target, force)
    files = [_dense_graph(dense, input_size, weights)]
    if dense.with_features:
        files.append(_roi_graph(RoINetwork(plain).eval(), weights))
    notes, sizes = [], []
    for target, (graph, size, difference) in zip(targets, files):
        _describe(graph, text, dataset_meta, input_size)
        data = graph.SerializeToString()
        write_atomically(target, data, force)
        sizes.append(size._replace(path=target, after=len(data)))
        notes.append(f'{target}: outputs differ from PyTorch\'s by at most '
                     f'{difference:.1e}')
    found = sum(len(size.integers.tensors) for size in sizes)
    expected = len({id(x.latent) for x in ternary_layers(model).values()})
    if weights != 'float' and found < expected:
        notes.append(
            f'{expected - found} of {expected} ternary layers stay '
            'float: they are small, equal to another or have two scales a '
            'channel')
    return OnnxSizeTable(sizes, notes)


def _dense_graph(network: DenseNetwork, input_size: Optional[Sequence[int]],
                 weights: str) -> Tuple[Any, GraphSize, float]:
    size = tuple(input_size or _EXAMPLE_SIZE)
    names = network.output_names(size)
    axes = {name: {0: 'batch'} for name in ('image', *names)}
    if input_size is None:
        for name in axes:
            axes[name].update({2: f'{name}_height', 3: f'{name}_width'})
    example = torch.randn(
        1, 3, *size, generator=torch.Generator().manual_seed(0))
    return _graph(network, example, 'image', names, axes, weights)


def _roi_graph(network: RoINetwork,
               weights: str) -> Tuple[Any, GraphSize, float]:
    head = network.bbox_head
    example = torch.randn(
        16,
        head.in_channels,
        *head.roi_feat_size,
        generator=torch.Generator().manual_seed(0))
    names = list(network.output_names)
    axes = {name: {0: 'rois'} for name in ('roi_features', *names)}
    return _graph(network, example, 'roi_features', names, axes, weights)


@torch.no_grad()
def _graph(network: nn.Module, example: torch.Tensor, input_name: str,
           names: List[str], axes: Dict[str, Dict[int, str]],
           weights: str) -> Tuple[Any, GraphSize, float]:
    graph = trace(network, example, input_name, names, axes, OPSETS[weights])
    before = graph.ByteSize()
    integers = Sizes([])
    if weights != 'float':
        integers = use_integers(graph, weights)
    size = GraphSize('', before, before, integers)
    difference = 0.0
    for name, ours, theirs in zip(names, network(example),
                                  run(graph, example.numpy())):
        ours = ours.numpy()
        error = float(np.abs(ours - theirs).max())
        if not error <= _TOLERANCE * max(1.0, float(np.abs(ours).max())):
            raise ValueError(f'the ONNX graph\'s {name} differs from '
                             f'PyTorch\'s by {error:.1e}; no file is written')
        difference = max(difference, error)
    return graph, size, difference


def _describe(graph: Any, config: str, dataset_meta: Dict[str, Any],
              input_size: Optional[Sequence[int]]) -> None:
    description = dict(
        config=config,
        classes=list(dataset_meta.get('classes', ())),
        input_size=list(input_size) if input_size else None)
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(description)
