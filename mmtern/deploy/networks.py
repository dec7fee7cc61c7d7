"""The parts of a detector that hold its weights."""
from typing import Any, List, Sequence, Tuple, Type

import torch
import torch.nn.functional as F
from mmdet.models import SingleStageDetector, StandardRoIHead, TwoStageDetector
from mmdet.models.dense_heads import SSDHead, TOODHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor, nn


class DenseNetwork(nn.Module):
    """Leads from an image to the outputs of a dense head, with the feature
    maps before them where ``with_features``.

    Args:
        detector (nn.Module): One of mmdet, from :func:`mmtern.freeze`; it is
            changed where a head does not trace, or does not decode.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector
        self.with_features = isinstance(detector, TwoStageDetector)
        self.head = (
            detector.rpn_head if self.with_features else detector.bbox_head)
        if type(self.head) is TOODHead:
            self.head.__class__ = _GridTOODHead
        if isinstance(self.head,
                      SSDHead) and not hasattr(self.head, 'loss_cls'):
            # mmdet 3.3's own decoding asks every head for it.
            self.head.loss_cls = None

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """Return maps (N, C', H/s, W/s), in the order of
        :meth:`output_names`, of normalized, padded ``image`` (N, C, H,
        W)."""
        features = self.detector.extract_feat(image)
        outputs = self.head(features)
        flat = [level for output in outputs for level in output]
        return (*features, *flat) if self.with_features else tuple(flat)

    @torch.no_grad()
    def output_names(self, image: Tensor) -> List[str]:
        """Return names like ``feature_2`` and ``head0_level3``, the fourth
        level of the head's first output (``cls_scores`` in mmdet's anchor
        heads).

        Raises:
            ValueError: If the head's outputs are not lists of one tensor a
                level.
        """
        try:
            outputs = self.head(features := self.detector.extract_feat(image))
        except RuntimeError as error:
            raise ValueError(
                f'{type(self.detector).__name__} fails on an image of '
                f'{tuple(image.shape[2:])} pixels: {error}') from error
        fine = isinstance(outputs, tuple) and all(
            isinstance(output, (list, tuple)) and all(
                isinstance(level, Tensor) for level in output)
            for output in outputs)
        if not fine:
            raise ValueError(f'{type(self.head).__name__} does not put out '
                             'one tensor a level, as ONNX export needs it')
        names = [f'feature_{i}' for i in range(len(features))]
        heads = [
            f'head{i}_level{j}' for i, output in enumerate(outputs)
            for j in range(len(output))
        ]
        return names + heads if self.with_features else heads


class RoINetwork(nn.Module):
    """Leads from RoI features (R, C, 7, 7) to class scores (R, classes + 1)
    and box deltas (R, 4 * classes).

    Args:
        detector (nn.Module): A two-stage detector of mmdet.
    """
    output_names = ('cls_score', 'bbox_pred')

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.bbox_head = detector.roi_head.bbox_head

    def forward(self, roi_features: Tensor) -> Tuple[Tensor, Tensor]:
        return self.bbox_head(roi_features)


class _GridTOODHead(TOODHead):
    """TOODHead whose boxes are sampled by ``grid_sample``, which is an
    operator of ONNX, instead of mmcv's deformable convolution."""

    def deform_sampling(self, feat: Tensor, offset: Tensor) -> Tensor:
        images, channels, height, width = feat.shape
        dy, dx = offset.reshape(images * channels, 2, height, width).unbind(1)
        y = torch.arange(height).to(feat)[:, None] + dy
        x = torch.arange(width).to(feat) + dx
        # Pixel centers at the integers, -1 and 1 at the map's outer edges.
        grid = torch.stack([(2 * x + 1) / width, (2 * y + 1) / height], -1) - 1
        return F.grid_sample(
            feat.reshape(images * channels, 1, height, width),
            grid,
            align_corners=False).reshape(feat.shape)


def check_supported(detector: nn.Module) -> None:
    """Raise ``ValueError`` unless this detector's structure is known."""
    kind = type(detector).__name__
    if isinstance(detector, TwoStageDetector):
        head = detector.roi_head
        # Dynamic R-CNN and its kin change the training only.
        alike = inherits(head, StandardRoIHead, 'predict', 'predict_bbox',
                         '_bbox_forward')
        if (alike and detector.with_rpn and not head.with_mask
                and not head.with_shared_head):
            return
        kind += f' with {type(head).__name__}'
    elif isinstance(detector, SingleStageDetector):
        head = getattr(detector, 'bbox_head', None)
        if isinstance(head,
                      BaseDenseHead) and not hasattr(detector, 'mask_head'):
            return
    raise ValueError('ONNX export knows single-stage detectors with a dense '
                     f'box head and Faster R-CNN, but got {kind}')


def inherits(head: nn.Module, owner: Type, *names: str) -> bool:
    """Return whether a head has the functions of these names that ``owner``
    has."""
    return all(
        getattr(type(head), name, None) is getattr(owner, name)
        for name in names)


@torch.no_grad()
def image_channels(detector: Any) -> int:
    """Return how many channels an image of this detector has.

    Args:
        detector (nn.Module): One of mmdet.

    Raises:
        ValueError: If it takes none of the numbers that its normalization and
            its first convolution tell.
    """
    mean = getattr(detector.data_preprocessor, 'mean', None)
    first = next((layer.in_channels for layer in detector.backbone.modules()
                  if isinstance(layer, nn.Conv2d)), 3)
    told = [first]
    if first % 4 == 0:
        told.append(first // 4)  # a focus layer stacks four pixels
    if mean is not None and mean.numel() > 1:
        told.insert(0, mean.numel())
    failure = None
    for channels in told:
        try:
            detector.extract_feat(torch.zeros(1, channels, 320, 320))
            return channels
        except RuntimeError as error:
            failure = failure or error
    raise ValueError(f'{type(detector).__name__} takes no images of {told} '
                     f'channels: {failure}')


def group_levels(names: Sequence[str],
                 maps: Sequence[Tensor]) -> Tuple[tuple, tuple]:
    """Return feature maps, and the head's outputs as it returned them: the
    inverse of :meth:`DenseNetwork.output_names`."""
    features = tuple(m for name, m in zip(names, maps)
                     if name.startswith('feature_'))
    outputs: List[List[Tensor]] = []
    for name, level in zip(names, maps):
        if name.endswith('_level0'):
            outputs.append([])
        if not name.startswith('feature_'):
            outputs[-1].append(level)
    return features, tuple(outputs)
