"""The graphs of a detector: traced for as many sizes and numbers of images as
is true, and compared with PyTorch and with mmdet's boxes."""
import copy
import zlib
from contextlib import contextmanager
from typing import (Any, Dict, Iterator, List, NamedTuple, Optional, Sequence,
                    Tuple, Union)

import numpy as np
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from torch import Tensor, nn

from ..files.sizes import Sizes
from .compose import join
from .metadata import test_pipeline
from .networks import group_levels, image_channels
from .parts import BOXES, Part, box_parts, network_parts
from .trace import Session, trace
from .weights import OPSETS, use_integers

# Images to trace with and to check with, where any size will do.
_SIZES = ((256, 320), (384, 256))
# What is not a multiple of anything, for graphs that pad by themselves.
_ODD_SIZE = (203, 333)
# Feature maps of 1/32 and of 1/64 and 1/128 by padded convs.
DIVISOR = 32
# Between float32 engines, relative to the largest output.
_TOLERANCE = 1e-4
# Share of boxes that must be found again; rounding decides about a few.
_SAME_BOXES = 0.9


class Form(NamedTuple):
    """Which images a graph takes: height and width in pixels, and how many;
    None stands for any."""
    size: Optional[Tuple[int, int]]
    batch: Optional[int]


class DetectorGraphs:
    """The graphs of one detector, that run one after another; see
    :mod:`.parts`.

    Args:
        detector (nn.Module): One of mmdet, from :func:`mmtern.freeze`.
        weights (str): Type of ternary weights; see
            :func:`mmtern.deploy.save_onnx`.
        raw (bool): Whether to begin with normalized images and stop at the
            head's outputs.
        pixels (str): Type of an image otherwise, 'uint8' or 'float32'.

    Attributes:
        parts: The module behind each graph.
        graphs: With float weights; empty before :meth:`find_form`.
        form: Which images they take.
        difference: The largest to an output of PyTorch, in all checks.
    """

    def __init__(self, detector: Any, weights: str, raw: bool,
                 pixels: str) -> None:
        self.dtype = torch.float32 if raw else getattr(torch, pixels)
        self.detector, self.weights, self.raw = detector, weights, raw
        if weights == 'int2' and not raw and hasattr(detector, 'roi_head'):
            self.weights = 'packed'
        self.channels = image_channels(detector)
        make = network_parts if raw else box_parts
        self.parts: List[Part] = make(detector,
                                      torch.zeros(1, self.channels, 320, 320))
        for part in self.parts:
            part.module.eval().requires_grad_(False)
        # Without padding of its own a detector, too, may want even sides.
        self.divisor = 1 if raw else self.parts[0].module.module.divisor
        self.graphs: List[Any] = []
        self.difference = 0.0
        self.form = Form(None, None)

    def find_form(self, input_size: Optional[Sequence[int]],
                  cfg: Config) -> List[str]:
        """Trace for any size and number of images, or for as much of it as
        is true; return notes of what is not.

        Raises:
            ValueError: If nothing can be traced that computes the same.
        """
        wanted = Form((input_size[0], input_size[1]) if input_size else None,
                      None)
        forms = [wanted, wanted._replace(batch=1)]
        if not input_size:
            for size in _fixed_sizes(cfg, self.pads):
                forms += [Form(size, None), Form(size, 1)]
        failure = None
        for form in forms:
            try:
                self.graphs = self.traced(form)
                self.check(form)
                self.form = form
                notes = self.limit_of_sides()
            # Modules fail with RuntimeError at sizes that they do not take.
            except (ValueError, RuntimeError) as error:
                failure = failure or error
                continue
            if form != wanted:
                limits = []
                if form.size and form.size != wanted.size:
                    limits.append('images of {} x {} pixels (height x '
                                  'width)'.format(*form.size))
                if form.batch != wanted.batch:
                    limits.append('one image at a time')
                notes.append(f'the graph takes {" and ".join(limits)} only: '
                             f'{failure}')
            return notes
        raise ValueError(f'no graph can be made of this detector: {failure}')

    @property
    def pads(self) -> bool:
        """Whether the graph pads images."""
        return self.divisor > 1

    @property
    def even_sides(self) -> bool:
        """Whether the network meets images with even sides only."""
        sides = self.form.size or (1, )
        return self.divisor % 2 == 0 or all(side % 2 == 0 for side in sides)

    def traced(self, form: Form) -> List[Any]:
        """Return a graph of each part, with float weights."""
        values = self.example(form.size, 1)
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

    def example(self, size: Optional[Tuple[int, int]],
                batch: int) -> Dict[str, Tensor]:
        """Return a made-up image, the same in every call; a size of None
        leaves the size open."""
        generator = torch.Generator().manual_seed(0)
        size = size or _SIZES[0]
        shape = (batch, self.channels, *size)
        if self.raw:
            return dict(image=torch.randn(*shape, generator=generator))
        # Coarse patches with noise: something to find at every scale.
        coarse = torch.rand(batch, self.channels, 5, 5, generator=generator)
        image = nn.functional.interpolate(coarse, size) * 200
        image += torch.rand(shape, generator=generator) * 55
        return dict(image=image.to(self.dtype))

    def complete(self, part: Part, values: Dict[str, Tensor]) -> None:
        """Give a raw second stage features to start from."""
        if 'roi_features' in part.inputs and 'roi_features' not in values:
            head = part.module.bbox_head
            generator = torch.Generator().manual_seed(0)
            values['roi_features'] = torch.randn(
                16, head.in_channels, *head.roi_feat_size, generator=generator)

    def check(self, form: Form) -> None:
        """Compare each graph with its module, and the last module with mmdet,
        at two sizes and numbers of images where ``form`` has any.

        Raises:
            ValueError: If they differ.
        """
        second = _ODD_SIZE if self.pads else _SIZES[1]
        self._check_at(form, [(form.size or _SIZES[0], 1),
                              (form.size or second, form.batch or 2)])

    def limit_of_sides(self) -> List[str]:
        """Return a note where images of any size must have even sides: necks
        that double a map fail on others, in PyTorch, too."""
        if self.form.size or self.raw or self.pads:
            return []
        try:
            self._check_at(self.form, [(_ODD_SIZE, 1)])
        except (ValueError, RuntimeError) as error:
            return [
                'the graph takes images with sides that are multiples of '
                f'{DIVISOR} only: {error}'
            ]
        return []

    def _check_at(self, form: Form, cases: Sequence[Tuple[Tuple[int, int],
                                                          int]]) -> None:
        # With all boxes, not only with those of the noise's few good scores.
        with _no_threshold(self.detector):
            graphs = self.graphs
            if not self.raw:
                graphs = [*graphs[:-1], self.traced(form)[-1]]
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
            else:
                self._same_regions(
                    dict(zip(part.outputs, expected)),
                    dict(zip(part.outputs, found)), where)
        if not self.raw:
            for index, one in enumerate(self._mmdet_boxes(values)):
                real = values['labels'][index] >= 0
                _same_boxes('mmdet\'s', one,
                            [values[name][index][real] for name in BOXES],
                            where)

    def _same_regions(self, ours: Dict[str, np.ndarray],
                      theirs: Dict[str, np.ndarray], where: str) -> None:
        """Compare regions as boxes, their levels being labels, and the
        features of those that both have at the same place."""

        def one(found: Dict[str, np.ndarray], index: int) -> List[np.ndarray]:
            levels = found['origins'][index]
            real = levels >= 0
            return [
                found['regions'][index][real],
                np.zeros(real.sum()), levels[real]
            ]

        boxes, other = ours['regions'], theirs['regions']
        for index in range(len(boxes)):
            _same_boxes('the graph\'s regions', one(ours, index),
                        one(theirs, index), where)
        if boxes.shape != other.shape:
            return
        near = np.abs(boxes - other).max(2) < 1e-3
        if not near.any():
            return
        features, others = (
            x['roi_features'][x['places']].reshape(*near.shape, -1)[near]
            for x in (ours, theirs))
        limit = 1e-3 * max(1.0, float(np.abs(features).max()))
        # Rounding decides about the level of a few.
        if (np.abs(features - others).max(1) < limit).mean() < _SAME_BOXES:
            raise ValueError('the features of regions differ from the '
                             f'graph\'s {where}')

    def _spread(self, part: Part, values: Dict[str, Tensor]) -> None:
        """Put scores of all sizes in place of the network's: it scores all of
        the noise alike, and ties come in any order."""
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
        """Return boxes, scores and labels of each image as mmdet decodes
        them."""
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
        """Return graphs with integer weights, and the sizes of these weights
        in each file."""
        graphs, sizes = [], []
        for part, graph in zip(self.parts, self.graphs):
            if part.network and self.weights != 'float':
                graph = _copy_of(graph)
                sizes.append(use_integers(graph, self.weights))
            graphs.append(graph)
        return graphs, self.by_file(sizes)

    def by_file(self, sizes: List[Sizes]) -> List[Sizes]:
        if self.raw:
            return sizes or [Sizes([]) for _ in self.parts]
        return [Sizes([t for size in sizes for t in size.tensors])]

    def assemble(self, graphs: List[Any]) -> List[Any]:
        """Return the graph of each file: all graphs joined, unless raw."""
        if self.raw:
            return [
                join([graph], part.inputs, part.outputs)
                for part, graph in zip(self.parts, graphs)
            ]
        return [join(graphs, ['image'], BOXES)]

    def float_bytes(self) -> List[int]:
        """Return the size of each file with float weights, in bytes."""
        return [graph.ByteSize() for graph in self.assemble(self.graphs)]

    def fill(self) -> List[int]:
        """Return the byte of each channel to fill an image up with."""
        fill = self.parts[0].module.module.gray()
        return list(fill) * (self.channels // len(fill))


def _copy_of(graph: Any) -> Any:
    other = type(graph)()
    other.CopyFrom(graph)
    return other


def _axes(name: str, dims: int, form: Form) -> Dict[int, str]:
    """Return which axes of a tensor are of any size."""
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


def _fixed_sizes(cfg: Config, pads: bool) -> List[Tuple[int, int]]:
    """Return height and width of the test pipeline's images: as they are,
    unless the detector ``pads``, and as multiples of the divisor."""
    for transform in test_pipeline(cfg):
        scale = transform.get('scale')
        if isinstance(scale, (list, tuple)) and len(scale) == 2:
            width, height = (-(-side // DIVISOR) * DIVISOR for side in scale)
            exact = [] if pads else [(scale[1], scale[0])]
            return list(dict.fromkeys([*exact, (height, width)]))
    return [_SIZES[0]]


@contextmanager
def _no_threshold(detector: nn.Module) -> Iterator[None]:
    """Within this context the detector takes any score for good enough."""
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
