"""Non-maximum suppression in a graph.

The operators here have no PyTorch counterpart that a tracer takes: each is a
function with PyTorch's computation (``forward``) and the ONNX nodes to put in
its place (``symbolic``).
"""
from typing import Tuple

import torch
from mmcv.ops import nms
from torch import Tensor

from ..checks import is_count

# Scores of boxes that are no candidates; real ones are at least 0.
NO_CANDIDATE = -1.0


class _TopK(torch.autograd.Function):
    """The ``count`` largest of each row, or all where there are fewer."""

    @staticmethod
    def forward(ctx, x: Tensor, count: int) -> Tuple[Tensor, Tensor]:
        values, places = x.sort(dim=1, descending=True, stable=True)
        return values[:, :count], places[:, :count]

    @staticmethod
    def symbolic(g, x, count: int):
        most = g.op('Constant', value_t=torch.tensor([count]))
        length = g.op('Shape', x, start_i=1, end_i=2)
        return g.op('TopK', x, g.op('Min', most, length), axis_i=1, outputs=2)


class _Candidates(torch.autograd.Function):
    """See :func:`candidates`."""

    @staticmethod
    def forward(ctx, scores: Tensor) -> Tuple[Tensor, Tensor]:
        counts = (scores > NO_CANDIDATE / 2).sum(1)
        return _TopK.forward(ctx, scores, max(1, int(counts.max())))

    @staticmethod
    def symbolic(g, scores):

        def constant(value):
            return g.op('Constant', value_t=torch.tensor(value))

        is_one = g.op('Greater', scores, constant(NO_CANDIDATE / 2))
        counts = g.op(
            'ReduceSum',
            g.op('Cast', is_one, to_i=7),  # TensorProto.INT64
            constant([1]),
            keepdims_i=0)
        most = g.op('ReduceMax', counts, keepdims_i=1)
        return g.op(
            'TopK',
            scores,
            g.op('Max', most, constant([1])),
            axis_i=1,
            outputs=2)


class _Take(torch.autograd.Function):
    """See :func:`take`. What PyTorch would do takes eight nodes."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor) -> Tensor:
        if x.dim() == 2:
            return x.gather(1, places)
        return x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))

    @staticmethod
    def symbolic(g, x, places):
        last = g.op('Constant', value_t=torch.tensor([-1]))
        return g.op(
            'GatherND', x, g.op('Unsqueeze', places, last), batch_dims_i=1)


class _Flat(torch.autograd.Function):
    """See :func:`flat`. What PyTorch would do takes eight nodes."""

    @staticmethod
    def forward(ctx, level: Tensor, channels: int) -> Tensor:
        return level.permute(0, 2, 3, 1).reshape(len(level), -1, channels)

    @staticmethod
    def symbolic(g, level, channels: int):
        # A side of 0 is the number of images, as it was.
        shape = g.op('Constant', value_t=torch.tensor([0, -1, channels]))
        return g.op('Reshape', g.op('Transpose', level, perm_i=[0, 2, 3, 1]),
                    shape)


class _Suppress(torch.autograd.Function):
    """Places (N, M) of the boxes that are left, by falling score; M is the
    most of any image or ``least``, and -1 fills up."""

    @staticmethod
    def forward(ctx, boxes: Tensor, scores: Tensor, threshold: float,
                count: int, least: int) -> Tensor:
        found = []
        for image, image_scores in zip(boxes, scores):
            candidates = (image_scores > NO_CANDIDATE / 2).nonzero()[:, 0]
            _, kept = nms(image[candidates], image_scores[candidates],
                          threshold)
            found.append(candidates[kept[:count]])
        most = max(least, *map(len, found))
        places = boxes.new_full((len(boxes), most), -1, dtype=torch.long)
        for row, kept in zip(places, found):
            row[:len(kept)] = kept
        return places

    @staticmethod
    def symbolic(g, boxes, scores, threshold: float, count: int, least: int):

        def constant(value, dtype=torch.long):
            return g.op('Constant', value_t=torch.tensor(value, dtype=dtype))

        def as_int(x):
            return g.op('Cast', x, to_i=7)  # TensorProto.INT64

        # Rows of (image, class, place), by image and then by falling score.
        picked = g.op('NonMaxSuppression', boxes,
                      g.op('Unsqueeze', scores, constant([1])),
                      constant([count]), constant([threshold], torch.float32),
                      constant([NO_CANDIDATE / 2], torch.float32))
        image = g.op('Gather', picked, constant([0]), axis_i=1)
        place = g.op('Gather', picked, constant(2), axis_i=1)
        images = g.op('Gather', g.op('Shape', scores), constant(0), axis_i=0)
        is_of = as_int(
            g.op(
                'Equal', image,
                g.op('Unsqueeze',
                     g.op('Range', constant(0), images, constant(1)),
                     constant([0]))))
        running = g.op('CumSum', is_of, constant(0))
        rank = g.op('Sub', g.op('GatherElements', running, image, axis_i=1),
                    constant([1]))
        counts = g.op('ReduceSum', is_of, constant([0]), keepdims_i=0)
        most = g.op('Max', g.op('ReduceMax', counts, keepdims_i=1),
                    constant([least]))
        empty = g.op(
            'ConstantOfShape',
            g.op(
                'Concat',
                g.op('Unsqueeze', images, constant([0])),
                most,
                axis_i=0),
            value_t=torch.tensor([-1]))
        return g.op('ScatterND', empty, g.op('Concat', image, rank, axis_i=1),
                    place)


def largest(x: Tensor, count: int) -> Tuple[Tensor, Tensor]:
    """Return values and places of the ``count`` largest of each row (N, L),
    by falling value; of all, where there are fewer."""
    return _TopK.apply(x, count)


def candidates(scores: Tensor) -> Tuple[Tensor, Tensor]:
    """Return scores and places (N, K) of the candidates of each row (N, L),
    by falling score; K is the most that a row has, and at least 1.
    ``NO_CANDIDATE`` fills up."""
    return _Candidates.apply(scores)


def take(x: Tensor, places: Tensor) -> Tensor:
    """Return ``x[n, places[n, m]]``, shape (N, M, ...), of x (N, L,
    ...)."""
    return _Take.apply(x, places)


def flat(level: Tensor, channels: int) -> Tensor:
    """Return a level's map (N, A * channels, H, W) as (N, H * W * A,
    channels)."""
    return _Flat.apply(level, channels)


def suppress(boxes: Tensor,
             scores: Tensor,
             labels: Tensor,
             nms_cfg: dict,
             count: int,
             least: int = 0) -> Tuple[Tensor, Tensor, Tensor]:
    """Return what mmcv's ``batched_nms`` leaves, for several images.

    Boxes of different labels do not suppress each other: as there they are
    moved apart, by the very same distances, so that rounding decides alike.

    Args:
        boxes (Tensor): Corners in pixels, (N, L, 4).
        scores (Tensor): (N, L); ``NO_CANDIDATE`` takes a box out.
        labels (Tensor): Class or level, int64, (N, L).
        nms_cfg (dict): As mmcv's; see :func:`check_suppression`.
        count (int): How many boxes of an image are left at most.
        least (int): For how many there is room at least.

    Returns:
        tuple: Boxes (N, M, 4), scores (N, M) and labels (N, M) by falling
        score, M being the most that an image has or ``least``; where it has
        fewer, scores are 0 and labels -1.
    """
    apart = boxes
    if not nms_cfg.get('class_agnostic', False):
        candidate = (scores > NO_CANDIDATE / 2)[..., None]
        most = boxes.masked_fill(~candidate, -1e4)
        offsets = labels.to(boxes) * (most.amax((1, 2)) + 1)[:, None]
        apart = boxes + offsets[..., None]
    places = _Suppress.apply(apart, scores, nms_cfg['iou_threshold'], count,
                             least)
    some, places = places >= 0, places.clamp(min=0)
    boxes, scores, labels = (take(x, places) for x in (boxes, scores, labels))
    return (boxes, scores.masked_fill(~some, 0), labels.masked_fill(~some, -1))


def check_suppression(cfg: dict) -> None:
    """Raise ``ValueError`` if a test_cfg's suppression is not the plain
    one."""
    nms_cfg = dict(cfg.get('nms') or {})
    known = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}
    plain = nms_cfg.get('type', 'nms') == 'nms' and set(nms_cfg) <= known
    if not plain or 'iou_threshold' not in nms_cfg:
        raise ValueError(f'the suppression {nms_cfg}')


def most_boxes(cfg: dict) -> int:
    """Return how many boxes of an image a test_cfg leaves at most.

    Raises:
        ValueError: If it names no number above 0: for -1 mmdet's heads leave
            all boxes, or all but the last.
    """
    most = cfg.get('max_per_img')
    if not is_count(most) or most == 0:
        raise ValueError(f'max_per_img={most!r}, which is no number above 0,')
    return most
