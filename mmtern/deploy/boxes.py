"""From a dense head's maps to boxes, as modules that trace.

Each module computes what a head of mmdet does in ``predict_by_feat``, for
several images at once and without steps that depend on values: boxes below
the score threshold are marked instead of taken out. Priors and coders are
mmdet's own. Which module serves a head is told by the functions it inherits,
so heads of other projects that keep mmdet's decoding are covered, too.
"""
import math
from typing import Any, Callable, List, Optional, Sequence, Tuple, Type

import torch
from mmdet.models.dense_heads import (FoveaHead, GFLHead, RPNHead, TOODHead,
                                      YOLOV3Head, YOLOXHead)
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.task_modules.coders import (DeltaXYWHBBoxCoder,
                                              DistancePointBBoxCoder,
                                              TBLRBBoxCoder, YOLOBBoxCoder)
from mmengine.config import ConfigDict
from torch import Tensor, nn

from .networks import inherits
from .suppression import (NO_CANDIDATE, check_suppression, flat, largest,
                          most_boxes, suppress, take)

# No bound, for heads that have none.
_ALL = 2**31 - 1
Detections = Tuple[Tensor, Tensor, Tensor]


def image_size(image: Tensor) -> Tensor:
    """Return width, height, width, height of ``image`` (N, C, H, W),
    float32."""
    return torch._shape_as_tensor(image)[[3, 2, 3, 2]].float()


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Return boxes (..., 4) cut at the image's borders."""
    return torch.minimum(boxes.clamp(min=0), size)


def mark(scores: Tensor, candidate: Tensor) -> Tensor:
    """Return ``scores``, with ``NO_CANDIDATE`` where not ``candidate``."""
    return scores.masked_fill(~candidate, NO_CANDIDATE)


def large_enough(boxes: Tensor, cfg: dict) -> Tensor:
    """Return whether boxes (..., 4) pass ``min_bbox_size``."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides.amin(-1) > cfg.get('min_bbox_size', -1)


def moved_boxes(coder: DeltaXYWHBBoxCoder, boxes: Tensor,
                deltas: Tensor) -> Tensor:
    """Return what mmdet's coder decodes of boxes and deltas (N, K, 4), in a
    third of its nodes."""
    deltas = deltas * deltas.new_tensor(coder.stds)
    if any(coder.means):
        deltas = deltas + deltas.new_tensor(coder.means)
    centers = (boxes[..., :2] + boxes[..., 2:]) * 0.5
    sides = boxes[..., 2:] - boxes[..., :2]
    moves = sides * deltas[..., :2]
    # mmdet's wh_ratio_clip: the most that a side grows, or shrinks.
    bound = -math.log(16 / 1000)
    lowest: Optional[float] = -bound
    if coder.add_ctr_clamp:
        moves = moves.clamp(-coder.ctr_clamp, coder.ctr_clamp)
        lowest = None
    half = sides * deltas[..., 2:].clamp(lowest, bound).exp() * 0.5
    centers = centers + moves
    return torch.cat([centers - half, centers + half], -1)


class DenseBoxes(nn.Module):
    """What mmdet's ``BaseDenseHead.predict_by_feat`` computes: the best
    ``nms_pre`` scores of each level, decoded, then non-maximum suppression by
    class.

    Args:
        head (nn.Module): A dense head of mmdet.
        cfg (ConfigDict): Its ``test_cfg``.
    """
    proposals = False
    clips = True
    # Pixels between the last column that a box reaches and the width.
    margin = 0
    coders: Tuple[Type, ...] = (DeltaXYWHBBoxCoder, DistancePointBBoxCoder,
                                TBLRBBoxCoder)

    def __init__(self, head: Any, cfg: ConfigDict) -> None:
        super().__init__()
        check_suppression(cfg)
        self.most = most_boxes(cfg)
        coder = getattr(head, 'bbox_coder', None)
        if type(coder) not in self.coders:
            raise ValueError(f'the box coder {type(coder).__name__}')
        if getattr(
                getattr(head, 'loss_cls', None), 'custom_cls_channels', False):
            raise ValueError(f'the scores of {type(head.loss_cls).__name__}')
        if cfg.get('nms_pre', -1) <= 0:
            raise ValueError('a test_cfg without nms_pre')
        if cfg.get('min_bbox_size', -1) > 0 and not self.proposals:
            raise ValueError('a test_cfg with min_bbox_size above 0')
        self.head, self.cfg = head, cfg

    def forward(self, image: Tensor,
                outputs: Sequence[Sequence[Tensor]]) -> Detections:
        """Decode the head's outputs, levels of each.

        Returns:
            tuple: Boxes (N, M, 4) in pixels of ``image`` (N, C, H, W), scores
            and labels (N, M); see :func:`suppress`.
        """
        scores, boxes, labels = self.candidates(outputs)
        if self.clips and self.head.bbox_coder.clip_border:
            boxes = clip(boxes, image_size(image) - self.margin)
        scores = mark(
            scores,
            large_enough(boxes, self.cfg)
            & (scores > NO_CANDIDATE / 2))
        # The second stage has no operator for no region at all.
        return suppress(boxes, scores, labels, self.cfg.nms, self.most,
                        int(self.proposals))

    def candidates(self, outputs: Sequence[Sequence[Tensor]]) -> Detections:
        """Return scores (N, L), boxes (N, L, 4) and labels (N, L) of all
        levels."""
        levels = list(zip(*outputs))
        found = [self.level(index, *maps) for index, maps in enumerate(levels)]
        # Decoded together: a graph's small nodes take a third of the time of
        # a small detector with 8 bits.
        values, level, places, labels, deltas, *factors = (
            torch.cat(x, 1) for x in zip(*found))
        priors = self.priors(level, places, [maps[1] for maps in levels])
        scores = self.scores(values, *factors)
        return scores, self.decode(priors, deltas), labels

    def level(self, index: int, classes: Tensor, deltas: Tensor, *factors:
              Tensor) -> Tuple[Tensor, ...]:
        """Return the best of one level, (N, K) each: what :meth:`scores`
        takes, the level and the places of priors in it, labels, and deltas (N,
        K, 4) as :meth:`decode` takes them."""
        values, places, labels = self.best(index, flat(classes, self.channels))
        sides = self.channels * int(deltas.shape[1]) // int(classes.shape[1])
        deltas = self.sides(index, take(flat(deltas, sides), places))
        weights = [take(flat(x, 1), places)[..., 0] for x in factors]
        level = torch.full_like(places, index)
        return values, level, places, labels, deltas, *weights

    def priors(self, level: Tensor, places: Tensor,
               maps: Sequence[Tensor]) -> Tensor:
        """Return the priors (N, K, 2 or 4) at ``places`` (N, K) of a ``level``
        (N, K), for levels with these ``maps`` (N, C, H, W): mmdet's of a
        level's first cell, moved by rows and columns."""
        generator = self.head.prior_generator
        first = generator.grid_priors(
            [(1, 1)] * generator.num_levels, device=places.device)
        counts = torch.tensor([len(x) for x in first])
        begins = counts.cumsum(0) - counts
        widths = torch.cat([torch._shape_as_tensor(x)[3:] for x in maps])
        strides = torch.cat(first).new_tensor(generator.strides)
        count = counts[level] if len(counts.unique()) > 1 else counts[0]
        width = widths[level]
        cells = torch.div(places, count, rounding_mode='trunc')
        rows = torch.div(cells, width, rounding_mode='trunc')
        cell = torch.stack([cells % width, rows], -1).to(strides)
        moved = torch.cat([cell * strides[level]] * (first[0].shape[1] // 2),
                          -1)
        return torch.cat(first)[begins[level] + places % count] + moved

    @property
    def channels(self) -> int:
        """Number of channels of the class map for one prior."""
        return self.head.cls_out_channels

    @property
    def sigmoid(self) -> bool:
        return getattr(self.head, 'use_sigmoid_cls', True)

    def best(self, index: int, logits: Tensor) -> Detections:
        """Return the best (N, K) of a level's logits (N, L, classes), or
        their probabilities without a sigmoid, the places of their priors and
        their classes.

        The priors of the K best scores are among the K best priors by their
        best class: only these are looked at class by class.
        """
        classes = self.channels
        if not self.sigmoid:
            logits = logits.softmax(-1)[..., :-1]
            classes -= 1
        _, priors = largest(logits.amax(-1), self.cfg.nms_pre)
        values, places = largest(
            take(logits, priors).flatten(1), self.cfg.nms_pre)
        row = torch.div(places, classes, rounding_mode='trunc')
        return values, take(priors, row), places % classes

    def scores(self, values: Tensor, *factors: Tensor) -> Tensor:
        """Return scores (N, K) of what :meth:`best` found, times the
        sigmoids of ``factors`` (N, K)."""
        scores = values.sigmoid() if self.sigmoid else values
        candidate = scores > self.cfg.get('score_thr', 0)
        for factor in factors:
            scores = scores * factor.sigmoid()
        return mark(scores, candidate)

    def sides(self, index: int, deltas: Tensor) -> Tensor:
        """Return a level's deltas (N, K, 4) in units that all levels share,
        of what the head puts out (N, K, ...)."""
        return deltas

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """Return boxes (N, K, 4) of priors (N, K, 2 or 4)."""
        if isinstance(self.head.bbox_coder, DeltaXYWHBBoxCoder):
            return moved_boxes(self.head.bbox_coder, priors, deltas)
        return self.head.bbox_coder.decode(priors, deltas)


class Proposals(DenseBoxes):
    """What mmdet's ``RPNHead.predict_by_feat`` computes: the best of each
    level, suppressed level by level."""
    proposals = True

    def best(self, index: int, logits: Tensor) -> Detections:
        if not self.sigmoid:
            logits = logits.softmax(-1)
        values, places = largest(logits[..., 0], self.cfg.nms_pre)
        return values, places, torch.full_like(places, index)

    def scores(self, values: Tensor, *factors: Tensor) -> Tensor:
        return values.sigmoid() if self.sigmoid else values


class DistributionBoxes(DenseBoxes):
    """``GFLHead``: each side is the mean of a distribution."""

    def sides(self, index: int, deltas: Tensor) -> Tensor:
        stride = self.head.prior_generator.strides[index][0]
        bins = self.head.integral.reg_max + 1
        shares = deltas.unflatten(-1, (4, bins)).softmax(-1)
        return (shares *
                self.head.integral.project.to(shares)).sum(-1) * stride

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        centers = (priors[..., 2:] + priors[..., :2]) / 2
        return self.head.bbox_coder.decode(centers, deltas)


class AlignedBoxes(DenseBoxes):
    """``TOODHead``: maps are scores and boxes already."""
    clips = False

    def scores(self, values: Tensor, *factors: Tensor) -> Tensor:
        return mark(values, values > self.cfg.score_thr)

    def sides(self, index: int, deltas: Tensor) -> Tensor:
        return deltas * self.head.prior_generator.strides[index][0]

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        return deltas


class BaseLengthBoxes(DenseBoxes):
    """``FoveaHead``: sides are exponentials of a level's base length."""
    margin = 1

    def sides(self, index: int, deltas: Tensor) -> Tensor:
        return deltas.exp() * self.head.base_edge_list[index]

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        left_top, right_bottom = deltas.split(2, -1)
        return torch.cat([priors - left_top, priors + right_bottom], -1)


class GridBoxes(DenseBoxes):
    """``YOLOV3Head``: one map a level with all that belongs to a prior, and
    the best of all levels together, among those whose objectness is at least
    ``conf_thr``."""
    clips = False
    coders = (YOLOBBoxCoder, )

    @property
    def channels(self) -> int:
        return self.head.num_classes

    def candidates(self, outputs: Sequence[Sequence[Tensor]]) -> Detections:
        (levels, ) = outputs
        sizes = [level.shape[-2:] for level in levels]
        priors = self.head.prior_generator.grid_priors(
            sizes, device=levels[0].device)
        strides = torch.cat([
            torch.full_like(own[:, :1], stride)
            for own, stride in zip(priors, self.head.featmap_strides)
        ])
        attributes = torch.cat(
            [flat(level, self.head.num_attrib) for level in levels], 1)
        logits = attributes[..., 5:]
        sure = attributes[..., 4].sigmoid() >= self.cfg.get('conf_thr', -1)
        # A score of 0 passes no threshold.
        logits = torch.where(sure[..., None], logits,
                             torch.full_like(logits, -1e4))
        values, places, labels = self.best(0, logits)
        deltas = take(attributes[..., :4], places)
        deltas = torch.cat([deltas[..., :2].sigmoid(), deltas[..., 2:]], -1)
        boxes = self.head.bbox_coder.decode(
            torch.cat(priors)[places], deltas, strides[places])
        scores = self.scores(values, take(attributes[..., 4], places))
        return scores, boxes, labels


class ObjectnessBoxes(nn.Module):
    """``YOLOXHead``: one class a prior, no bound on their number.

    Args:
        head (nn.Module): Of this type, or with its decoding.
        cfg (ConfigDict): Its ``test_cfg``.
    """

    def __init__(self, head: Any, cfg: ConfigDict) -> None:
        super().__init__()
        check_suppression(cfg)
        self.head, self.cfg = head, cfg

    def forward(self, image: Tensor,
                outputs: Sequence[Sequence[Tensor]]) -> Detections:
        classes, deltas, objects = outputs
        sizes = [level.shape[-2:] for level in classes]
        priors = torch.cat(
            self.head.prior_generator.grid_priors(
                sizes,
                dtype=classes[0].dtype,
                device=classes[0].device,
                with_stride=True))
        channels = self.head.cls_out_channels
        best, labels = torch.cat([flat(x, channels) for x in classes],
                                 1).sigmoid().max(-1)
        objectness = torch.cat([flat(x, 1) for x in objects], 1)[...,
                                                                 0].sigmoid()
        boxes = self.head._bbox_decode(
            priors, torch.cat([flat(x, 4) for x in deltas], 1))
        scores = best * objectness
        scores = mark(scores, scores >= self.cfg.score_thr)
        return suppress(boxes, scores, labels, self.cfg.nms, _ALL)


_SINGLE = ('_predict_by_feat_single', )
_SHARED = ('predict_by_feat', '_bbox_post_process')
_KNOWN: List[Tuple[Callable[[nn.Module], bool], Type]] = [
    (lambda head: inherits(head, RPNHead, *_SINGLE, *_SHARED), Proposals),
    (lambda head: inherits(head, YOLOXHead, *_SHARED, '_bbox_decode'),
     ObjectnessBoxes),
    (lambda head: inherits(head, GFLHead, *_SINGLE, *_SHARED),
     DistributionBoxes),
    (lambda head: inherits(head, TOODHead, *_SINGLE, *_SHARED), AlignedBoxes),
    (lambda head: inherits(head, FoveaHead, *_SINGLE, *_SHARED, '_bbox_decode'
                           ), BaseLengthBoxes),
    (lambda head: inherits(head, YOLOV3Head, *_SHARED), GridBoxes),
    (lambda head: inherits(head, BaseDenseHead, *_SINGLE, *_SHARED),
     DenseBoxes),
]


def boxes_of(head: nn.Module, cfg: ConfigDict) -> nn.Module:
    """Return the module that decodes a dense head's outputs.

    Raises:
        ValueError: If none is known.
    """
    for fits, kind in _KNOWN:
        if fits(head):
            try:
                return kind(head, cfg)
            except ValueError as error:
                raise ValueError(
                    f'boxes of {type(head).__name__} with {error} are not '
                    'known in a graph; --raw writes the head\'s outputs'
                ) from None
    raise ValueError(f'the decoding of {type(head).__name__} is not known in '
                     'a graph; --raw writes the head\'s outputs')
