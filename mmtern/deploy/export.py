"""Write a detector as ONNX."""
import copy
import re
import time
import warnings
import zlib
from contextlib import contextmanager
from typing import (Any, Callable, Dict, Iterable, Iterator, List, NamedTuple,
                    Optional, Sequence, Set, Tuple, Union)

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from torch import Tensor, nn

from ..checks import check_choice
from ..convert import freeze, ternary_layers
from ..files.container import check_target, write_atomically
from ..files.sizes import Sizes
from .activations import LAYERS, float_layers, layer_name, quantize, spoiled
from .compose import join
from .metadata import (class_names, describe, description_of, input_rules,
                       test_pipeline)
from .networks import check_supported, group_levels, image_channels
from .parts import BOXES, Part, box_parts, network_parts
from .size_table import GraphSize, OnnxSizeTable
from .trace import Session, trace
from .weights import OPSETS, WEIGHTS, use_integers

ACTIVATIONS = ('int8', 'float')
# Images to trace with and to check with, where any size will do.
_SIZES = ((256, 320), (384, 256))
# What is not a multiple of anything, for graphs that pad by themselves.
_ODD_SIZE = (203, 333)
# Feature maps of 1/32 and of 1/64 and 1/128 by padded convs.
_DIVISOR = 32
# Between float32 engines, relative to the largest output.
_TOLERANCE = 1e-4
# Share of boxes that must be found again; rounding decides about a few.
_SAME_BOXES = 0.9
# 8 bits against float: calibration images, the score of boxes looked for, and
# the share that must be found again. RetinaNet on the shapes finds nearly
# all and keeps its AP; YOLOX-Nano on VOC, where all layers compute in 8 bits,
# finds fewer than half and loses half of its AP.
_COMPARED = 16
_SURE = 0.3
_FOUND_AGAIN = 0.9
# Calibration images that layers are run on alone.
_ALONE = 8


class Form(NamedTuple):
    """What a graph takes: None stands for any."""
    size: Optional[Tuple[int, int]]
    batch: Optional[int]


def roi_path(path: str) -> str:
    """Where the second graph of a two-stage detector lies."""
    return f'{path[:-len(".onnx")]}.roi.onnx'


def save_onnx(model: nn.Module,
              cfg: Config,
              path: str,
              dataset_meta: Dict[str, Any],
              weights: str = 'int2',
              activations: str = 'float',
              images: Iterable[Tensor] = (),
              input_size: Optional[Sequence[int]] = None,
              keep: Sequence[str] = (),
              raw: bool = False,
              force: bool = False,
              progress: Callable[[list], Iterable] = iter) -> OnnxSizeTable:
    """Write a trained detector as one ONNX file that puts out boxes.

    The graph takes ``image``, bytes (N, C, H, W) in RGB, and puts out
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
            multiples of 32, of the only images to take. Defaults to None: any
            size.
        keep (Sequence[str]): Regular expressions of names of layers that
            compute in float. The layer that puts out distributions (GFL)
            always does, and layers that 8-bit inputs would spoil.
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
    if not path.endswith('.onnx'):
        raise ValueError(f'an ONNX file ends in .onnx, but got {path!r}')
    if activations == 'int8' and weights == 'float':
        raise ValueError("8-bit activations need integer weights, but got "
                         "weights='float'")
    _check_size(input_size)
    check_supported(model)
    detector = freeze(model)
    detector.requires_grad_(False)
    two_files = raw and hasattr(detector, 'roi_head')
    targets = [path, roi_path(path)] if two_files else [path]
    for target in targets:
        check_target(target, force)
    head = getattr(detector, 'roi_head', detector)
    classes = class_names(dataset_meta,
                          getattr(head.bbox_head, 'num_classes', None))
    rules = None if raw else input_rules(cfg)
    kept = _kept_layers(detector, keep)
    images = list(images) if activations == 'int8' else []
    if activations == 'int8' and not images:
        raise ValueError('8-bit activations are measured on images, but there '
                         'are none')
    writer = _Writer(detector, weights, raw)
    form, notes = writer.find_form(input_size, cfg)
    facts = dict(
        form='raw' if raw else 'boxes',
        weights=weights,
        activations=activations,
        input_size=list(form.size) if form.size else None,
        batch=form.batch,
        channels=writer.channels)
    if rules is not None:
        facts.update(rules, fill=writer.fill())
    graphs, sizes = writer.weight_only()
    if activations == 'int8':
        plain = writer.assemble(graphs)
        lost = writer.spoiled_layers(images, kept)
        kept |= lost
        if lost:
            notes.append('8 bits would spoil the inputs of some layers; these '
                         'and those around them stay float: '
                         f'{", ".join(sorted(lost))}')
        graphs, sizes = writer.quantized(images, kept, progress)
        notes += writer.compare(plain, graphs, kept, images)
    else:
        notes.append('outputs differ from PyTorch\'s by at most '
                     f'{writer.difference:.1e}')
    files = []
    for target, graph, before, size in zip(targets, writer.assemble(graphs),
                                           writer.float_bytes(), sizes):
        describe(graph, classes, **facts)
        data = graph.SerializeToString()
        # Read back what was made before it is handed out.
        if description_of(Session(data).metadata)['classes'] != classes:
            raise ValueError('the metadata do not read back')
        write_atomically(target, data, force)
        files.append(GraphSize(target, before, len(data), size))
    found = sum(len(size.tensors) for size in sizes)
    expected = len({id(x.latent) for x in ternary_layers(model).values()})
    if weights != 'float' and found < expected:
        notes.append(
            f'{expected - found} of {expected} ternary layers stay '
            'float: they are small, equal to another or have two scales a '
            'channel')
    return OnnxSizeTable(files, notes)


class _Writer:
    """The graphs of one detector of mmdet, from :func:`mmtern.freeze`."""

    def __init__(self, detector: Any, weights: str, raw: bool) -> None:
        self.detector, self.weights, self.raw = detector, weights, raw
        if weights == 'int2' and not raw and hasattr(detector, 'roi_head'):
            self.weights = 'packed'
        self.channels = image_channels(detector)
        self.names = {name for name, _ in detector.named_modules()}
        make = network_parts if raw else box_parts
        self.parts: List[Part] = make(detector,
                                      torch.zeros(1, self.channels, 320, 320))
        for part in self.parts:
            part.module.eval().requires_grad_(False)
        self.graphs: List[Any] = []
        self.difference = 0.0
        self.form = Form(None, None)

    def find_form(self, input_size: Optional[Sequence[int]],
                  cfg: Config) -> Tuple[Form, List[str]]:
        """Trace for any size and number of images, or for as much of it as
        is true."""
        wanted = Form((input_size[0], input_size[1]) if input_size else None,
                      None)
        forms = [wanted, wanted._replace(batch=1)]
        if not input_size:
            size = _fixed_size(cfg)
            forms += [Form(size, None), Form(size, 1)]
        failure = None
        for form in forms:
            try:
                with warnings.catch_warnings():
                    # mmdet's coder would rather decode an image at a time.
                    warnings.simplefilter('ignore')
                    self.graphs = self.traced(form)
                    self.check(form)
            # Modules fail with RuntimeError at sizes that they do not take.
            except (ValueError, RuntimeError) as error:
                failure = failure or error
                continue
            self.form, notes = form, []
            if form != wanted:
                limits = []
                if form.size and form.size != wanted.size:
                    limits.append('images of {} x {} pixels (height x '
                                  'width)'.format(*form.size))
                if form.batch != wanted.batch:
                    limits.append('one image at a time')
                notes.append(f'the graph takes {" and ".join(limits)} only: '
                             f'{failure}')
            return form, notes
        raise ValueError(f'no graph can be made of this detector: {failure}')

    def traced(self, form: Form) -> List[Any]:
        """A graph of each part, with float weights."""
        values = self.example(form.size or _SIZES[0], 1)
        graphs = []
        for part in self.parts:
            self.complete(part, values)
            inputs = {name: values[name] for name in part.inputs}
            part.run(values)
            axes = {
                name: _axes(name, values[name].dim(), form)
                for name in (*part.inputs, *part.outputs)
            }
            graphs.append(
                trace(part.module, inputs, part.outputs, axes,
                      OPSETS[self.weights]))
        return graphs

    def example(self, size: Tuple[int, int], batch: int) -> Dict[str, Tensor]:
        """A made-up image, the same in every call."""
        generator = torch.Generator().manual_seed(0)
        shape = (batch, self.channels, *size)
        if self.raw:
            return dict(image=torch.randn(*shape, generator=generator))
        # Coarse patches with noise: something to find at every scale.
        coarse = torch.rand(batch, self.channels, 5, 5, generator=generator)
        image = nn.functional.interpolate(coarse, size) * 200
        image += torch.rand(shape, generator=generator) * 55
        return dict(image=image.to(torch.uint8))

    def complete(self, part: Part, values: Dict[str, Tensor]) -> None:
        """Give a raw second stage features to start from."""
        if 'roi_features' in part.inputs and 'roi_features' not in values:
            head = part.module.bbox_head
            generator = torch.Generator().manual_seed(0)
            values['roi_features'] = torch.randn(
                16, head.in_channels, *head.roi_feat_size, generator=generator)

    def check(self, form: Form) -> None:
        """Compare each graph with its module, and the last module with mmdet.

        Raises:
            ValueError: If they differ.
        """
        cases = [(form.size or _SIZES[0], 1)]
        # Without padding of its own a detector, too, may want even sides.
        pads = not self.raw and self.parts[0].module.module.divisor > 1
        second = _ODD_SIZE if pads else _SIZES[1]
        cases.append((form.size or second, form.batch or 2))
        # With all boxes, not only with those of the noise's few good scores.
        with _no_threshold(self.detector):
            graphs = self.graphs
            if not self.raw:
                last = self.traced(form)[-1]
                graphs = [*graphs[:-1], last]
            sessions = [Session(x.SerializeToString()) for x in graphs]
            for size, batch in cases:
                self._check_case(sessions, size, batch)

    def _check_case(self, sessions: List[Session], size: Tuple[int, int],
                    batch: int) -> None:
        where = f'for {batch} image(s) of {size[0]} x {size[1]} pixels'
        values = self.example(size, batch)
        for part, session in zip(self.parts, sessions):
            self.complete(part, values)
            found = session.run(
                {name: values[name].numpy()
                 for name in session.inputs})
            part.run(values)
            expected = [values[name].numpy() for name in part.outputs]
            if part.network or len(part.outputs) == 1:
                for name, ours, theirs in zip(part.outputs, expected, found):
                    self._close(name, ours, theirs, where)
                self._spread(part, values)
            elif tuple(part.outputs) == BOXES:
                _same_boxes('the graph\'s', expected, found, where)
        if not self.raw:
            for index, one in enumerate(self._mmdet_boxes(values)):
                real = values['labels'][index] >= 0
                _same_boxes('mmdet\'s', one,
                            [values[name][index][real] for name in BOXES],
                            where)

    def _spread(self, part: Part, values: Dict[str, Tensor]) -> None:
        """Put scores of all sizes in place of the network's: what noise
        looks like to it is all the same, and ties come in any order."""
        if not self.raw:
            for name in part.outputs:
                if name.startswith('head0_') or name == 'cls_score':
                    seed = zlib.crc32(name.encode())  # others in each level
                    values[name] = torch.randn(
                        values[name].shape,
                        generator=torch.Generator().manual_seed(seed))
                elif name.startswith('head') or name == 'bbox_pred':
                    # An untrained detector's exponentials have no bound.
                    values[name] = values[name].clamp(-2, 2)

    @torch.no_grad()
    def _mmdet_boxes(self, values: Dict[str,
                                        Tensor]) -> List[List[np.ndarray]]:
        """Boxes, scores and labels of each image as mmdet decodes them."""
        dense = self.parts[1]
        features, outputs = group_levels(
            dense.outputs, [values[name] for name in dense.outputs])
        metas = [dict(img_shape=tuple(x.shape[1:])) for x in values['image']]
        head = dense.module.head
        found = head.predict_by_feat(*outputs, batch_img_metas=metas)
        if len(self.parts) > 3:
            head = self.detector.roi_head
            rois = [bbox2roi([x.bboxes]) for x in found]
            places = values['places'].view(values['origins'].shape)
            rows = [row[:len(x)] for row, x in zip(places, rois)]
            found = head.bbox_head.predict_by_feat(
                rois, [values['cls_score'][x] for x in rows],
                [values['bbox_pred'][x] for x in rows], metas, head.test_cfg)
        return [[
            getattr(x, name).numpy() for name in ('bboxes', 'scores', 'labels')
        ] for x in found]

    def _close(self, name: str, ours: np.ndarray, theirs: np.ndarray,
               where: str) -> None:
        error = np.inf
        if ours.shape == theirs.shape:
            error = float(np.abs(ours - theirs).max())
        if not error <= _TOLERANCE * max(1.0, float(np.abs(ours).max())):
            raise ValueError(f'the ONNX graph\'s {name} differs from '
                             f'PyTorch\'s by {error:.1e} {where}')
        self.difference = max(self.difference, error)

    def weight_only(self) -> Tuple[List[Any], List[Sizes]]:
        """Graphs with integer weights, and what these take, of each file."""
        graphs, sizes = [], []
        for part, graph in zip(self.parts, self.graphs):
            if part.network and self.weights != 'float':
                graph = _copy_of(graph)
                sizes.append(use_integers(graph, self.weights))
            graphs.append(graph)
        return graphs, self._by_file(sizes)

    def spoiled_layers(self, images: List[Tensor], kept: Set[str]) -> Set[str]:
        """Names of layers that 8-bit inputs would spoil."""
        few = images[::max(1, len(images) // _ALONE)][:_ALONE]
        found = set()
        for index, part in enumerate(self.parts):
            if part.network:
                graph = self.graphs[index]
                nodes = spoiled(graph, self._measured(index, few, iter),
                                self.kept_nodes(graph, part, kept))
                found |= {
                    self.layer_of(part, node)
                    for node in graph.graph.node if node.name in nodes
                }
        return found

    def quantized(self, images: List[Tensor], kept: Set[str],
                  progress: Callable) -> Tuple[List[Any], List[Sizes]]:
        """Graphs with integer weights and 8-bit activations."""
        graphs, sizes = [], []
        for index, part in enumerate(self.parts):
            graph = self.graphs[index]
            if part.network:
                graph, size = quantize(graph, self.weights,
                                       self._measured(index, images, progress),
                                       self.kept_nodes(graph, part, kept))
                sizes.append(size)
            graphs.append(graph)
        return graphs, self._by_file(sizes)

    def _by_file(self, sizes: List[Sizes]) -> List[Sizes]:
        if self.raw:
            return sizes or [Sizes([]) for _ in self.parts]
        return [Sizes([t for size in sizes for t in size.tensors])]

    def _measured(self, index: int, images: List[Tensor],
                  progress: Callable) -> Iterator[Dict[str, np.ndarray]]:
        """Inputs of a part, of each image."""
        before = [
            Session(graph.SerializeToString()) for graph in self.graphs[:index]
        ]
        taken = self.parts[index].inputs
        for image in progress(images):
            values = {'image': self._made_to_fit(image)}
            if self.raw and taken[0] == 'roi_features':
                values[taken[0]] = self._roi_features(values['image'])
                before = []
            for part, session in zip(self.parts, before):
                outputs = session.run(
                    {name: values[name]
                     for name in session.inputs})
                values.update(zip(part.outputs, outputs))
            if len(values[taken[0]]):
                yield {name: values[name] for name in taken}

    def kept_nodes(self, graph: Any, part: Part, kept: Set[str]) -> Set[str]:
        """Names of the nodes of these layers, each use of them."""
        return {
            node.name
            for node in graph.graph.node
            if node.op_type in LAYERS and self.layer_of(part, node) in kept
        }

    def layer_of(self, part: Part, node: Any) -> str:
        """The detector's name of the layer that a node was traced from."""
        name = part.prefix + layer_name(node)
        # The nth use of one layer.
        return name if name in self.names else re.sub(r'_\d+$', '', name)

    @torch.no_grad()
    def _roi_features(self, image: np.ndarray) -> np.ndarray:
        """What mmdet hands to the second stage, for normalized images."""
        detector, images = self.detector, torch.from_numpy(image)
        size = tuple(images.shape[-2:])
        samples = [
            DetDataSample(metainfo=dict(img_shape=size)) for _ in images
        ]
        features = detector.extract_feat(images)
        found = detector.rpn_head.predict(features, samples, rescale=False)
        extractor = detector.roi_head.bbox_roi_extractor
        return extractor(features[:extractor.num_inputs],
                         bbox2roi([x.bboxes for x in found])).numpy()

    def _made_to_fit(self, image: Tensor) -> np.ndarray:
        """A calibration image as the first part takes it."""
        size = self.form.size
        if self.raw:
            data = dict(inputs=[image], data_samples=[DetDataSample()])
            image = self.detector.data_preprocessor(data)['inputs']
        else:
            image = image[None]
            if self.channels == 3:
                image = image[:, [2, 1, 0]]
        if size:
            image = image[..., :size[0], :size[1]]
            missing = [own - is_ for own, is_ in zip(size, image.shape[2:])]
            image = nn.functional.pad(image, (0, missing[1], 0, missing[0]))
        return image.contiguous().numpy()

    def assemble(self, graphs: List[Any]) -> List[Any]:
        """The graph of each file."""
        if self.raw:
            return [
                join([graph], part.inputs, part.outputs)
                for part, graph in zip(self.parts, graphs)
            ]
        return [join(graphs, ['image'], BOXES)]

    def float_bytes(self) -> List[int]:
        """Bytes of each file with float weights."""
        return [graph.ByteSize() for graph in self.assemble(self.graphs)]

    def fill(self) -> List[int]:
        """The byte of each channel to fill an image up with."""
        fill = self.parts[0].module.module.gray()
        return list(fill) * (self.channels // len(fill))

    def compare(self, plain: List[Any], graphs: List[Any], kept: Set[str],
                images: List[Tensor]) -> List[str]:
        """Check that all layers compute with 8 bits, and tell what they
        gain and lose here.

        Raises:
            ValueError: If one computes in float without being told to, or if
                boxes are lost.
        """
        names: Set[str] = set()
        for part, graph in zip(self.parts, graphs):
            if part.network:
                names |= self.kept_nodes(graph, part, kept)
        whole = [x.SerializeToString() for x in self.assemble(graphs)]
        for data in whole:
            accidents = float_layers(data, names)
            if accidents:
                raise ValueError(
                    f'{len(accidents)} layers compute in float where 8 bits '
                    f'were meant, the first {accidents[0]!r}; --keep names '
                    'layers that may')
        notes = []
        if names:
            notes.append(f'layers that compute in float: {len(kept)}')
        if not self.raw:
            sessions = [Session(plain[0].SerializeToString())]
            sessions.append(Session(whole[0]))
            notes += self._found_again(sessions, images)
            # In turn, on a made-up image.
            size = self.form.size or _SIZES[0]
            image = dict(image=self.example(size, 1)['image'].numpy())
            seconds: List[List[float]] = [[], []]
            for _ in range(7):
                for session, row in zip(sessions, seconds):
                    started = time.perf_counter()
                    session.run(image)
                    row.append(time.perf_counter() - started)
            gain = np.median(np.divide(seconds[0], seconds[1])[2:])
            note = (f'{gain:.2f} times as fast here as with float '
                    'activations')
            if gain < 1:
                note += '; --activations float is faster, and exact'
            notes.append(note)
        return notes

    def _found_again(self, sessions: List[Session],
                     images: List[Tensor]) -> List[str]:
        """Which of the boxes of the first graph the second finds, too."""
        total = again = 0
        for image in images[:_COMPARED]:
            fed = dict(image=self._made_to_fit(image))
            (boxes, scores,
             labels), (others, _,
                       other_labels) = ([x[0] for x in session.run(fed)]
                                        for session in sessions)
            sure = scores >= _SURE
            total += int(sure.sum())
            same = labels[sure][:, None] == other_labels
            overlap = _overlaps(boxes[sure], others) * same
            again += int((overlap > 0.5).any(1).sum())
        if not total:
            return []
        if again < _FOUND_AGAIN * total:
            raise ValueError(
                f'8 bits are too few for this detector: of its {total} boxes '
                f'with scores of {_SURE} and more in '
                f'{len(images[:_COMPARED])} images only '
                f'{again} are found again; use float activations '
                '(--activations float), or keep the layers that need it '
                '(--keep PATTERN)')
        return [
            f'{again} of {total} boxes with scores of {_SURE} and more are '
            'found again with 8-bit activations'
        ]


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of boxes (M, 4) and others (K, 4), shape (M, K)."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (boxes, others)]
    return both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-6)


def _copy_of(graph: Any) -> Any:
    other = type(graph)()
    other.CopyFrom(graph)
    return other


def _axes(name: str, dims: int, form: Form) -> Dict[int, str]:
    """Which axes of a tensor are of any size."""
    if name in ('roi_features', 'cls_score', 'bbox_pred', 'places'):
        return {0: 'regions_of_all'}
    axes = {} if form.batch else {0: 'batch'}
    if name in BOXES:
        axes[1] = 'detections'
    elif name in ('regions', 'origins'):
        axes[1] = 'regions'
    elif dims == 4 and not form.size:
        axes.update({2: f'{name}_height', 3: f'{name}_width'})
    return axes


def _check_size(size: Optional[Sequence[int]]) -> None:
    if size is not None and (len(size) != 2
                             or any(side < _DIVISOR or side % _DIVISOR
                                    for side in size)):
        raise ValueError('input_size must be height and width, positive '
                         f'multiples of {_DIVISOR}, but got {size}')


def _fixed_size(cfg: Config) -> Tuple[int, int]:
    """Height and width of the test pipeline's images, as a multiple of the
    divisor."""
    for transform in test_pipeline(cfg):
        scale = transform.get('scale')
        if isinstance(scale, (list, tuple)) and len(scale) == 2:
            width, height = (-(-side // _DIVISOR) * _DIVISOR for side in scale)
            return height, width
    return _SIZES[0]


def _kept_layers(detector: nn.Module, keep: Sequence[str]) -> Set[str]:
    """Names of layers that match a pattern, or put out distributions.

    Raises:
        ValueError: If a pattern matches none.
    """
    names = [
        name for name, layer in detector.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    kept = set()
    for pattern in keep:
        try:
            found = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise ValueError(f'keep holds {pattern!r}, which is no regular '
                             f'expression: {error}') from None
        if not found:
            raise ValueError(f'keep holds the pattern {pattern!r}, which '
                             'matches no layer; layers are named like '
                             f'{names[0]!r}')
        kept |= found
    # The mean of a softmax over coarse steps moves whole boxes.
    head = getattr(detector, 'bbox_head', None)
    if hasattr(head, 'integral'):
        kept |= {name for name in names if name == 'bbox_head.gfl_reg'}
    return kept


@contextmanager
def _no_threshold(detector: nn.Module) -> Iterator[None]:
    """All scores are good enough, for a while."""
    cfgs = [
        head.test_cfg for name in ('bbox_head', 'roi_head')
        for head in [getattr(detector, name, None)]
        if head is not None and getattr(head, 'test_cfg', None) is not None
    ]
    before = [copy.deepcopy(cfg.get('score_thr')) for cfg in cfgs]
    for cfg in cfgs:
        cfg['score_thr'] = 0.0
    try:
        yield
    finally:
        for cfg, value in zip(cfgs, before):
            if value is None:
                cfg.pop('score_thr')
            else:
                cfg['score_thr'] = value


def _same_boxes(whose: str, expected: Sequence[np.ndarray],
                found: Sequence[Union[np.ndarray,
                                      Tensor]], where: str) -> None:
    """Raise ``ValueError`` unless both are the same detections, but for a few
    that rounding decides about."""
    boxes, scores, labels = (np.asarray(x) for x in expected)
    other_boxes, other_scores, other_labels = (np.asarray(x) for x in found)
    if boxes.ndim == 3:
        for row in zip(boxes, scores, labels, other_boxes, other_scores,
                       other_labels):
            _same_boxes(whose, row[:3], row[3:], where)
        return
    few = (1 - _SAME_BOXES) * len(boxes)
    fine = abs(len(boxes) - len(other_boxes)) <= few
    if fine and len(boxes) and len(other_boxes):
        scale = max(1.0, float(np.abs(boxes).max()))
        gap = np.abs(boxes[:, None] - other_boxes).max(2) / scale
        gap[labels[:, None] != other_labels] = np.inf
        gap[np.abs(scores[:, None] - other_scores) > 1e-3] = np.inf
        fine = (gap.min(1) < 1e-3).mean() >= _SAME_BOXES
    if not fine:
        raise ValueError(f'boxes differ from {whose} {where}')
