"""The second stage of Faster R-CNN in a graph: RoIAlign and boxes."""
from typing import Any, Sequence, Tuple

import torch
from mmcv.ops import RoIAlign
from mmdet.models import SingleRoIExtractor
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmengine.config import ConfigDict
from torch import Tensor, nn

from .boxes import Detections, clip, image_size, mark, moved_boxes
from .networks import inherits
from .suppression import (candidates, check_suppression, most_boxes, suppress,
                          take)

# Samples along each side of a bin of RoIAlign in graphs with 8-bit
# activations, whose slowest part mmdet's default would be: as many as the bin
# has cells. One costs a Faster R-CNN-R18 0.1 AP, like 2, which gain little
# (docs/deployment.md).
SAMPLES = 1


class _Align(torch.autograd.Function):
    """mmcv's RoIAlign of regions (R, 4) of the images ``image_of`` (R, )."""

    @staticmethod
    def forward(ctx, features: Tensor, regions: Tensor, image_of: Tensor,
                layer: RoIAlign) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            # mmcv's own function cannot be traced inside of this one, and
            # only shapes count here.
            return features.new_zeros(
                len(regions), features.shape[1], *layer.output_size)
        rois = torch.cat([image_of[:, None].to(regions), regions], 1)
        return layer(features, rois)

    @staticmethod
    def symbolic(g, features, regions, image_of, layer: RoIAlign):
        mode = 'half_pixel' if layer.aligned else 'output_half_pixel'
        height, width = layer.output_size
        return g.op(
            'RoiAlign',
            features,
            regions,
            image_of,
            coordinate_transformation_mode_s=mode,
            mode_s='avg',
            output_height_i=height,
            output_width_i=width,
            sampling_ratio_i=layer.sampling_ratio,
            spatial_scale_f=layer.spatial_scale)


class RoIFeatures(nn.Module):
    """Leads from the RPN's maps to the features that the box head takes.

    Args:
        proposals (nn.Module): From :func:`boxes_of` the RPN.
        roi_head (nn.Module): mmdet's ``StandardRoIHead``.

    Raises:
        ValueError: If the extractor is another than FPN's with RoIAlign.
    """

    def __init__(self, proposals: nn.Module, roi_head: Any) -> None:
        super().__init__()
        extractor = roi_head.bbox_roi_extractor
        fine = type(extractor) is SingleRoIExtractor and all(
            type(layer) is RoIAlign and layer.pool_mode == 'avg'
            for layer in extractor.roi_layers)
        if not fine:
            raise ValueError('the features of regions are only known of '
                             'SingleRoIExtractor with RoIAlign, but got '
                             f'{extractor}')
        self.proposals, self.extractor = proposals, extractor

    def forward(self, image: Tensor, features: Sequence[Tensor],
                outputs: Sequence[Sequence[Tensor]]) -> Tuple[Tensor, ...]:
        """Align the regions of all images on the level that each is on.

        Returns:
            tuple: Features (R, C, 7, 7), regions (N, M, 4) and their levels in
            the RPN (N, M), -1 where there is none, and the place of each of
            the N * M regions among the R = N * M features.
        """
        regions, _, origins = self.proposals(image, outputs)
        count = regions.shape[1]
        # Engines ask for the 4 of each region before they run (OpenVINO).
        rows = regions.reshape(-1, 4)
        images = torch.arange(regions.shape[0])
        image_of = images[:, None].expand(-1, count).flatten()
        levels = features[:self.extractor.num_inputs]
        level_of = self.extractor.map_roi_levels(
            torch.cat([image_of[:, None].to(rows), rows], 1), len(levels))
        order, found = [], []
        for index, (level, layer) in enumerate(
                zip(levels, self.extractor.roi_layers)):
            own = (level_of == index).nonzero()[:, 0]
            order.append(own)
            found.append(_Align.apply(level, rows[own], image_of[own], layer))
        return (torch.cat(found), regions, origins, torch.cat(order).argsort())


def sample_sparsely(roi_head: Any) -> bool:
    """Let RoIAlign take :data:`SAMPLES` x ``SAMPLES`` samples a bin where it
    takes as many as the bin has cells (``sampling_ratio=0``).

    Returns:
        bool: Whether it did so.
    """
    adaptive = [
        layer for layer in roi_head.bbox_roi_extractor.roi_layers
        if layer.sampling_ratio == 0
    ]
    for layer in adaptive:
        layer.sampling_ratio = SAMPLES
    return bool(adaptive)


class RegionBoxes(nn.Module):
    """What mmdet's ``BBoxHead.predict_by_feat`` computes.

    Args:
        roi_head (nn.Module): mmdet's ``StandardRoIHead``.
        cfg (ConfigDict): Its ``test_cfg``.

    Raises:
        ValueError: If the head decodes in another way.
    """

    def __init__(self, roi_head: Any, cfg: ConfigDict) -> None:
        super().__init__()
        head = roi_head.bbox_head
        same = inherits(head, BBoxHead, 'predict_by_feat',
                        '_predict_by_feat_single')
        if (not same or head.custom_cls_channels
                or type(head.bbox_coder) is not DeltaXYWHBBoxCoder):
            raise ValueError(
                f'the decoding of {type(head).__name__} is not known in a '
                'graph; --raw writes the head\'s outputs')
        try:
            check_suppression(cfg)
            self.most = most_boxes(cfg)
        except ValueError as error:
            raise ValueError(
                f'boxes of {type(head).__name__} with {error} are not known '
                'in a graph; --raw writes the head\'s outputs') from None
        self.head, self.cfg = head, cfg

    def forward(self, image: Tensor, regions: Tensor, origins: Tensor,
                places: Tensor, logits: Tensor, deltas: Tensor) -> Detections:
        """Return detections from regions (N, M, 4) and the head's outputs
        (R, ...)."""
        images, classes = regions.shape[0], self.head.num_classes
        scores = logits[places].softmax(-1)[:, :classes]
        scores = scores.reshape(images, -1, classes)
        # Where an image has fewer regions than another.
        real = (origins >= 0)[..., None]
        scores = mark(scores, (scores > self.cfg.score_thr) & real)
        # Few of all classes of all regions are worth decoding.
        scores, best = candidates(scores.flatten(1))
        rows = torch.div(best, classes, rounding_mode='trunc')
        deltas = deltas[places].reshape(images, -1, 4)
        boxes = moved_boxes(
            self.head.bbox_coder, take(regions, rows),
            take(deltas, rows if self.head.reg_class_agnostic else best))
        if self.head.bbox_coder.clip_border:
            boxes = clip(boxes, image_size(image))
        return suppress(boxes, scores, best % classes, self.cfg.nms, self.most)
