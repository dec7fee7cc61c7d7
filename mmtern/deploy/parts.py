"""A detector as a chain of modules, each of which becomes a graph."""
import warnings
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

import torch
from torch import Tensor, nn

from .boxes import boxes_of
from .networks import DenseNetwork, RoINetwork, group_levels
from .preprocess import Preprocess
from .rois import RegionBoxes, RoIFeatures

BOXES = ('boxes', 'scores', 'labels')


@dataclass
class Part:
    """One module of the chain.

    Attributes:
        module: An ``nn.Module``, in eval.
        inputs, outputs: Names of the tensors that it takes and puts out.
        network: Whether it holds weights of the detector.
        prefix: What comes before its layers' names in the detector.
    """
    module: Any
    inputs: Sequence[str]
    outputs: Sequence[str]
    network: bool = False
    prefix: str = ''

    @torch.no_grad()
    def run(self, values: Dict[str, Tensor]) -> None:
        """Compute the outputs and put them among the named tensors."""
        with warnings.catch_warnings():
            # mmdet's coder would rather decode an image at a time.
            warnings.simplefilter('ignore')
            outputs = self.module(*(values[name] for name in self.inputs))
        values.update(zip(self.outputs, outputs))


class _Preprocess(nn.Module):

    def __init__(self, module: Preprocess) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> Tuple[Tensor]:
        return (self.module(image), )


class _Decoder(nn.Module):
    """A decoder that takes each map as an argument of its own, as a tracer
    wants it."""

    def __init__(self, module: nn.Module, names: Sequence[str],
                 with_features: bool) -> None:
        super().__init__()
        self.module, self.names = module, names
        self.with_features = with_features

    def forward(self, image: Tensor, *maps: Tensor) -> Tuple[Tensor, ...]:
        features, outputs = group_levels(self.names, maps)
        if self.with_features:
            return self.module(image, features, outputs)
        return self.module(image, outputs)


def network_parts(detector: nn.Module, example: Tensor) -> List[Part]:
    """Return the network alone: from normalized ``image`` (N, C, H, W) to the
    head's outputs and, in a second part of a two-stage detector, from features
    of regions to their scores and deltas."""
    dense = DenseNetwork(detector)
    parts = [Part(dense, ['image'], dense.output_names(example), network=True)]
    if dense.with_features:
        roi = RoINetwork(detector)
        parts.append(
            Part(
                roi, ['roi_features'],
                list(roi.output_names),
                network=True,
                prefix='roi_head.'))
    return parts


def box_parts(detector: Any, example: Tensor) -> List[Part]:
    """Return the parts that lead from the pixels of an ``image`` to
    ``boxes``, ``scores`` and ``labels``.

    Args:
        detector (nn.Module): One of mmdet, from :func:`mmtern.freeze`.
        example (Tensor): Images (N, C, H, W).

    Raises:
        ValueError: If its preprocessing or decoding is not known.
    """
    preprocess = Preprocess(detector.data_preprocessor, example.shape[1])
    dense, *roi = network_parts(detector, example)
    dense.inputs = ['normalized']
    first = Part(_Preprocess(preprocess), ['image'], ['normalized'])
    names = dense.outputs
    head = dense.module.head
    decode = boxes_of(head, head.test_cfg)
    if not roi:
        decoder = _Decoder(decode, names, False)
        return [first, dense, Part(decoder, ['image', *names], BOXES)]
    regions = ['regions', 'origins', 'places']
    roi_head = detector.roi_head
    return [
        first, dense,
        Part(
            _Decoder(RoIFeatures(decode, roi_head), names, True),
            ['image', *names], ['roi_features', *regions]), roi[0],
        Part(
            RegionBoxes(roi_head, roi_head.test_cfg),
            ['image', *regions, *roi[0].outputs], BOXES)
    ]
