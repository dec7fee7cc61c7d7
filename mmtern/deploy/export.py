"""Write a detector as ONNX."""
from typing import Any, Callable, Dict, Iterable, Optional, Sequence

from mmengine.config import Config
from torch import Tensor, nn

from ..checks import check_choice
from ..convert import freeze, ternary_layers
from ..files.container import check_target, write_atomically
from .eight_bits import eight_bits, kept_layers
from .graphs import DIVISOR, DetectorGraphs
from .metadata import (check_input_size, class_names, describe, description_of,
                       input_rules)
from .networks import check_supported
from .size_table import GraphSize, OnnxSizeTable
from .trace import Session
from .weights import WEIGHTS

ACTIVATIONS = ('int8', 'float')
PIXELS = ('uint8', 'float32')


def roi_path(path: str) -> str:
    """Return the path of the second graph of a raw two-stage detector."""
    return f'{path[:-len(".onnx")]}.roi.onnx'


def save_onnx(model: nn.Module,
              cfg: Config,
              path: str,
              dataset_meta: Dict[str, Any],
              weights: str = 'int2',
              activations: str = 'float',
              images: Iterable[Tensor] = (),
              input_size: Optional[Sequence[int]] = None,
              pixels: str = 'uint8',
              keep: Sequence[str] = (),
              raw: bool = False,
              force: bool = False,
              progress: Callable[[list], Iterable] = iter) -> OnnxSizeTable:
    """Write a trained detector as one ONNX file that puts out boxes.

    The graph takes ``image``, (N, C, H, W) in RGB, 0 to 255, and puts out
    ``boxes`` (N, K, 4) in pixels of that image, ``scores`` (N, K) and
    ``labels`` (N, K), by falling score; K is the most boxes of an image, and
    where another has fewer its labels are -1 and its scores 0. Its metadata
    hold the class names and how an image is made to fit.

    All graphs are run and compared with PyTorch, and with mmdet's own boxes,
    before a file is written, at two sizes and with two images at once where
    any size and any number are promised.

    Args:
        model (nn.Module): Trained, on the CPU.
        cfg (Config): Its config.
        path (str): Target, ending in ``.onnx``.
        dataset_meta (dict): Class names.
        weights (str): Ternary weights as 'int2' (opset 25), 'int4' (opset
            21), 'int8' (opset 17) or 'float' (opset 17).
        activations (str): 'int8', or 'float': equal to the checkpoint.
        images (Iterable[Tensor]): To measure 8-bit activations with; bytes
            (C, H, W) in mmdet's order, see :func:`calibration_images`.
        input_size (Sequence[int], optional): Height and width in pixels,
            multiples of 32, of the only images to take; the pipeline's must
            fit. Defaults to None: any size.
        pixels (str): Type of ``image`` unless ``raw``: 'uint8' or 'float32'.
        keep (Sequence[str]): Regular expressions of names of layers that
            compute in float beside 8-bit activations. The layer that puts
            out distributions (GFL) always does, and layers that 8-bit inputs
            would spoil.
        raw (bool): Write the network alone, for
            :class:`mmtern.deploy.OnnxDetector`: normalized images to the
            head's outputs; of a two-stage detector a second file,
            ``OUT.roi.onnx``, maps features of regions to scores and deltas.
        force (bool): Replace existing files.
        progress (Callable): Is handed the list of calibration images, and
            iterated; shows a bar if it wants to.

    Raises:
        ValueError: For a bad argument, a detector that is not known, or a
            graph that computes something else.
        FileExistsError: If a target exists and ``force`` is not set.
    """
    check_choice('weights', weights, WEIGHTS)
    check_choice('activations', activations, ACTIVATIONS)
    check_choice('pixels', pixels, PIXELS)
    if not path.endswith('.onnx'):
        raise ValueError(f'an ONNX file ends in .onnx, but got {path!r}')
    if activations == 'int8' and weights == 'float':
        raise ValueError("8-bit activations need integer weights, but got "
                         "weights='float'")
    if activations == 'float' and keep:
        raise ValueError('keep names layers that stay float beside 8-bit '
                         f'ones, but got keep={list(keep)!r} and '
                         "activations='float'")
    if raw and pixels != 'uint8':
        raise ValueError('a raw graph takes normalized images, to which '
                         f'pixels={pixels!r} does not apply')
    _check_size(input_size)
    check_supported(model)
    detector = freeze(model)
    detector.requires_grad_(False)
    two_files = raw and hasattr(detector, 'roi_head')
    targets = [path, roi_path(path)] if two_files else [path]
    for target in targets:
        check_target(target, force)
    head: Any = getattr(detector, 'roi_head', detector)
    classes = class_names(dataset_meta,
                          getattr(head.bbox_head, 'num_classes', None))
    kept = kept_layers(detector, keep)
    images = list(images) if activations == 'int8' else []
    if activations == 'int8' and not images:
        raise ValueError('8-bit activations are measured on images, but there '
                         'are none')
    whole = DetectorGraphs(detector, weights, raw, pixels)
    rules = None if raw else input_rules(cfg, whole.channels)
    if rules is not None and input_size is not None:
        check_input_size(rules, input_size)
    notes = whole.find_form(input_size, cfg)
    form = whole.form
    facts: Dict[str, Any] = dict(
        form='raw' if raw else 'boxes',
        activations=activations,
        input_size=list(form.size) if form.size else None,
        batch=form.batch,
        channels=whole.channels)
    if rules is not None:
        facts.update(rules, fill=whole.fill(), pixels=pixels)
    if activations == 'int8':
        graphs, sizes, more = eight_bits(whole, images, kept, progress)
        notes += more
    else:
        graphs, sizes = whole.weight_only()
        notes.append('outputs differ from PyTorch\'s by at most '
                     f'{whole.difference:.1e}')
    if rules is not None and head is not detector:
        # 0: as many as a bin has cells.
        layers = head.bbox_roi_extractor.roi_layers
        facts['roi_samples'] = [layer.sampling_ratio for layer in layers]
    found = sum(len(size.tensors) for size in sizes)
    # Without ternary weights 8-bit activations go with 8-bit weights.
    facts['weights'] = weights if found else activations
    files = []
    for target, graph, before, size in zip(targets, whole.assemble(graphs),
                                           whole.float_bytes(), sizes):
        describe(graph, classes, **facts)
        data = graph.SerializeToString()
        # Read back what was made before it is handed out.
        if description_of(Session(data).metadata)['classes'] != classes:
            raise ValueError('the metadata do not read back')
        write_atomically(target, data, force)
        files.append(GraphSize(target, before, len(data), size))
    expected = len({id(x.latent) for x in ternary_layers(model).values()})
    if weights != 'float' and found < expected:
        notes.append(
            f'{expected - found} of {expected} ternary layers stay '
            'float: they are small, equal to another or have two scales a '
            'channel')
    return OnnxSizeTable(files, notes)


def _check_size(size: Optional[Sequence[int]]) -> None:
    if size is not None and (len(size) != 2
                             or any(side < DIVISOR or side % DIVISOR
                                    for side in size)):
        raise ValueError('input_size must be height and width, positive '
                         f'multiples of {DIVISOR}, but got {size}')
