"""8-bit activations of a whole detector: which layers stay float, ranges
measured from image to boxes, and whether boxes are lost."""
import re
import time
from typing import Any, Callable, Dict, Iterator, List, Sequence, Set, Tuple

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from ..checks import first_three
from ..files.sizes import Sizes
from .activations import LAYERS, float_layers, layer_name, quantize, spoiled
from .agreement import agreement
from .equality import Boxes
from .graphs import DetectorGraphs
from .parts import Part
from .rois import SAMPLES, sample_sparsely
from .stem import over_blocks
from .trace import Session

# Calibration images to compare boxes in.
_COMPARED = 16
# Calibration images that layers are run on alone.
_ALONE = 8


def eight_bits(whole: DetectorGraphs, images: Sequence[Tensor], kept: Set[str],
               progress: Callable) -> Tuple[List[Any], List[Sizes], List[str]]:
    """Return the graphs of a detector with integer weights and 8-bit
    activations, what their weights take in each file, and notes.

    Args:
        whole (DetectorGraphs): Traced.
        images (Sequence[Tensor]): To measure activations with; bytes
            (C, H, W) in mmdet's order.
        kept (Set[str]): Names of layers that stay float, beside those that 8
            bits would spoil.
        progress (Callable): As in :func:`mmtern.deploy.save_onnx`.

    Raises:
        ValueError: If a layer computes in float without being told to, or if
            boxes are lost or made up.
    """
    run = _Calibration(whole, images)
    notes = []
    if not whole.raw:
        plain, _ = whole.weight_only()
        exact = whole.assemble(plain)[0].SerializeToString()
        roi_head = getattr(whole.detector, 'roi_head', None)
        if roi_head is not None and sample_sparsely(roi_head):
            whole.graphs = whole.traced(whole.form)
            notes.append(f'RoIAlign takes {SAMPLES} x {SAMPLES} samples a bin')
    lost = run.spoiled_layers(kept)
    if lost:
        notes.append(
            '8 bits would spoil the inputs of some layers; these and '
            f'those around them stay float: {first_three(sorted(lost))}')
    kept = kept | lost
    graphs, sizes = run.quantized(kept, progress)
    float_nodes = {
        name
        for part, graph in zip(whole.parts, graphs) if part.network
        for name in run.kept_nodes(graph, part, kept)
    }
    if float_nodes:
        notes.append(f'layers that compute in float: {len(kept)}')
    files = [x.SerializeToString() for x in whole.assemble(graphs)]
    for data in files:
        accidents = float_layers(data, float_nodes)
        if accidents:
            raise ValueError(
                f'{len(accidents)} layers compute in float where 8 bits were '
                f'meant, the first {accidents[0]!r}; --keep names layers that '
                'may')
    if whole.raw:
        notes.append('what 8-bit activations change was not measured: without '
                     '--raw, export compares boxes')
    else:
        sessions = [Session(exact), Session(files[0])]
        notes.append(agreement(run.boxes(*sessions)))
        notes.append(_gain(sessions, whole.example(whole.form.size, 1)))
    return graphs, sizes, notes


def kept_layers(detector: nn.Module, keep: Sequence[str]) -> Set[str]:
    """Return the names of layers that match a pattern, or put out
    distributions.

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


class _Calibration:
    """Calibration images on their way through the graphs of a detector."""

    def __init__(self, whole: DetectorGraphs,
                 images: Sequence[Tensor]) -> None:
        self.whole, self.images = whole, images
        self.names = {name for name, _ in whole.detector.named_modules()}

    def spoiled_layers(self, kept: Set[str]) -> Set[str]:
        """Return the names of layers that 8-bit inputs would spoil."""
        few = self.images[::max(1, len(self.images) // _ALONE)][:_ALONE]
        found = set()
        for index, part in enumerate(self.whole.parts):
            if part.network:
                graph = self.whole.graphs[index]
                nodes = spoiled(graph, self._measured(index, few, iter),
                                self.kept_nodes(graph, part, kept))
                found |= {
                    self.layer_of(part, node)
                    for node in graph.graph.node if node.name in nodes
                }
        return found

    def quantized(self, kept: Set[str],
                  progress: Callable) -> Tuple[List[Any], List[Sizes]]:
        """Return graphs with integer weights and 8-bit activations, and the
        sizes of these weights in each file."""
        graphs, sizes = [], []
        for index, part in enumerate(self.whole.parts):
            graph = self.whole.graphs[index]
            if part.network:
                nodes = self.kept_nodes(graph, part, kept)
                if self.whole.even_sides:
                    graph = over_blocks(graph, nodes)
                graph, size = quantize(
                    graph, self.whole.weights,
                    self._measured(index, self.images, progress), nodes)
                sizes.append(size)
            graphs.append(graph)
        return graphs, self.whole.by_file(sizes)

    def _measured(self, index: int, images: Sequence[Tensor],
                  progress: Callable) -> Iterator[Dict[str, np.ndarray]]:
        """Yield what goes into a part, for each image."""
        before = [
            Session(graph.SerializeToString())
            for graph in self.whole.graphs[:index]
        ]
        taken = self.whole.parts[index].inputs
        for image in progress(images):
            values = {'image': self._made_to_fit(image)}
            if self.whole.raw and taken[0] == 'roi_features':
                values[taken[0]] = self._roi_features(values['image'])
                before = []
            for part, session in zip(self.whole.parts, before):
                outputs = session.run(
                    {name: values[name]
                     for name in session.inputs})
                values.update(zip(part.outputs, outputs))
            if len(values[taken[0]]):
                yield {name: values[name] for name in taken}

    def kept_nodes(self, graph: Any, part: Part, kept: Set[str]) -> Set[str]:
        """Return the names of the nodes of these layers, for each use of
        them."""
        return {
            node.name
            for node in graph.graph.node
            if node.op_type in LAYERS and self.layer_of(part, node) in kept
        }

    def layer_of(self, part: Part, node: Any) -> str:
        """Return the detector's name of the layer that a node was traced
        from."""
        name = part.prefix + layer_name(node)
        # The nth use of one layer.
        return name if name in self.names else re.sub(r'_\d+$', '', name)

    @torch.no_grad()
    def _roi_features(self, image: np.ndarray) -> np.ndarray:
        """Return what mmdet hands to the second stage, for normalized
        images."""
        detector, images = self.whole.detector, torch.from_numpy(image)
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
        """Return a calibration image as the first part takes it."""
        size = self.whole.form.size
        if self.whole.raw:
            data = dict(inputs=[image], data_samples=[DetDataSample()])
            image = self.whole.detector.data_preprocessor(data)['inputs']
        else:
            image = image[None]
            if self.whole.channels == 3:
                image = image[:, [2, 1, 0]]
        if size:
            # Where it is turned the other way it is made smaller, as
            # tools/detect.py does.
            factor = min(own / is_ for own, is_ in zip(size, image.shape[2:]))
            if factor < 1:
                smaller = [max(1, int(x * factor)) for x in image.shape[2:]]
                image = nn.functional.interpolate(
                    image.float(), smaller, mode='bilinear')
            missing = [own - is_ for own, is_ in zip(size, image.shape[2:])]
            image = nn.functional.pad(image, (0, missing[1], 0, missing[0]))
        return image.to(self.whole.dtype).contiguous().numpy()

    def boxes(self, exact: Session,
              other: Session) -> List[Tuple[Boxes, Boxes]]:
        """Return what both find in each of the first images."""
        return [(self._found(exact, image), self._found(other, image))
                for image in self.images[:_COMPARED]]

    def _found(self, session: Session, image: Tensor) -> Boxes:
        boxes, scores, labels = session.run(
            dict(image=self._made_to_fit(image)))
        return boxes[0], scores[0], labels[0]


def _gain(sessions: Sequence[Session], image: Dict[str, Tensor]) -> str:
    """Return a note of how many times as fast as the first session the second
    is, running in turn."""
    fed = {name: value.numpy() for name, value in image.items()}
    seconds: List[List[float]] = [[], []]
    for _ in range(7):
        for session, row in zip(sessions, seconds):
            started = time.perf_counter()
            session.run(fed)
            row.append(time.perf_counter() - started)
    gain = np.median(np.divide(seconds[0], seconds[1])[2:])
    note = f'{gain:.2f} times as fast here as with float activations'
    if gain < 1:
        note += '; --activations float is faster, and exact'
    return note
