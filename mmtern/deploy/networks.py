"""The parts of a detector that become ONNX graphs.

Convolutions, norms and linear layers go into the graph; anchors, box decoding,
NMS and RoIAlign stay in mmdet's own head code, which
:class:`mmtern.deploy.OnnxDetector` calls. So one tracer of plain layers serves
all dense heads, and there is no second implementation of the decoding to keep
equal. (MMDeploy puts the decoding into the graph, for which it replaces
functions of mmdet while it traces; that needs its own build for this line of
mmdet, and mmtern patches nothing.)
"""
from typing import List, Sequence, Tuple

from mmdet.models import SingleStageDetector, StandardRoIHead, TwoStageDetector
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor, nn


class DenseNetwork(nn.Module):
    """Image to the outputs of a dense head, after the feature maps where
    ``with_features``.

    Args:
        detector (nn.Module): From :func:`mmtern.freeze`.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.with_features = isinstance(detector, TwoStageDetector)
        self.head = (
            detector.rpn_head if self.with_features else detector.bbox_head)

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """Normalized, padded ``image`` (N, 3, H, W) to maps (N, C, H/s, W/s)
        in the order of :meth:`output_names`."""
        features = self.detector.extract_feat(image)
        outputs = self.head(features)
        flat = [level for output in outputs for level in output]
        return (*features, *flat) if self.with_features else tuple(flat)

    def output_names(self, size: Tuple[int, int]) -> List[str]:
        """Names like ``feature_2`` and ``head0_level3``: the fourth level of
        the head's first output (``cls_scores`` in mmdet's anchor heads).

        Raises:
            ValueError: If the head's outputs are not lists of one tensor a
                level.
        """
        parameter = next(self.parameters())
        features = self.detector.extract_feat(parameter.new_zeros(1, 3, *size))
        outputs = self.head(features)
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
    """RoI features (R, C, 7, 7) to class scores (R, classes + 1) and box
    deltas (R, 4 * classes)."""
    output_names = ('cls_score', 'bbox_pred')

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.bbox_head = detector.roi_head.bbox_head

    def forward(self, roi_features: Tensor) -> Tuple[Tensor, Tensor]:
        return self.bbox_head(roi_features)


def check_supported(detector: nn.Module) -> None:
    """Raise ``ValueError`` unless this detector's decoding is known."""
    kind = type(detector).__name__
    if isinstance(detector, TwoStageDetector):
        head = detector.roi_head
        if (type(head) is StandardRoIHead and detector.with_rpn
                and not head.with_mask and not head.with_shared_head):
            return
    elif isinstance(detector, SingleStageDetector):
        head = getattr(detector, 'bbox_head', None)
        if isinstance(head,
                      BaseDenseHead) and not hasattr(detector, 'mask_head'):
            return
    raise ValueError('ONNX export knows single-stage detectors with a dense '
                     f'box head and Faster R-CNN, but got {kind}')


def group_levels(names: Sequence[str],
                 maps: Sequence[Tensor]) -> Tuple[tuple, tuple]:
    """Inverse of :meth:`DenseNetwork.output_names`: feature maps, and the
    head's outputs as it returned them."""
    features = tuple(m for name, m in zip(names, maps)
                     if name.startswith('feature_'))
    outputs: List[List[Tensor]] = []
    for name, level in zip(names, maps):
        if name.endswith('_level0'):
            outputs.append([])
        if not name.startswith('feature_'):
            outputs[-1].append(level)
    return features, tuple(outputs)
