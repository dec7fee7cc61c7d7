"""Run an exported detector with onnxruntime, decode with mmdet."""
import json
import os.path as osp
from copy import deepcopy
from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from mmdet.models.utils import empty_instances
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmengine.model import BaseModel
from torch import Tensor

from .export import METADATA_KEY, roi_path
from .networks import check_supported, group_levels
from .packages import check_onnx_packages


class _Session:
    """One graph on onnxruntime's CPU provider, tensors in and out."""

    def __init__(self, path: str) -> None:
        import onnxruntime
        if not osp.isfile(path):
            raise FileNotFoundError(f'{path!r} does not exist')
        options = onnxruntime.SessionOptions()
        # As many as torch has been given.
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=['CPUExecutionProvider'])
        # onnxruntime's exceptions have no common base but this.
        except Exception as error:
            reason = ' '.join(str(error).split())[:300]
            raise ValueError(
                f'onnxruntime cannot read {path!r}: {reason}') from None
        self.input_name = self.session.get_inputs()[0].name
        self.names = [output.name for output in self.session.get_outputs()]

    def description(self) -> Dict[str, Any]:
        """What the export wrote into the metadata; empty for others."""
        metadata = self.session.get_modelmeta().custom_metadata_map
        return json.loads(metadata.get(METADATA_KEY, '{}'))

    def __call__(self, value: Tensor) -> List[Tensor]:
        outputs = self.session.run(None, {self.input_name: value.numpy()})
        return [torch.from_numpy(output) for output in outputs]


@MODELS.register_module()
class OnnxDetector(BaseModel):
    """A detector whose networks run in onnxruntime.

    Preprocessing, anchors, box decoding, NMS and RoIAlign are mmdet's own,
    taken from ``detector``; only ``mode='predict'`` is there. Put in place of
    a config's model it runs under ``Runner.test``, as tools/test_onnx.py
    does.

    Args:
        onnx (str): File of :func:`mmtern.deploy.save_onnx`; of a two-stage
            detector its ``.roi.onnx`` lies beside it.
        detector (dict): The model's config. Its weights are not used.

    Raises:
        ImportError: If onnx or onnxruntime is missing.
        ValueError: If a file is no such export.
    """

    def __init__(self, onnx: str, detector: Dict[str, Any]) -> None:
        check_onnx_packages()
        detector = _float_config(detector)
        super().__init__(
            data_preprocessor=deepcopy(detector.get('data_preprocessor')))
        built = MODELS.build(detector)
        check_supported(built)
        self.dense = _Session(onnx)
        description = self.dense.description()
        if not description:
            raise ValueError(f'{onnx!r} was not exported by mmtern')
        self.input_size: Optional[Tuple[int, int]] = None
        if description['input_size']:
            self.input_size = tuple(description['input_size'])
        self.test_cfg = built.test_cfg
        self.roi: Optional[_Session] = None
        if getattr(built, 'with_rpn', False):
            self.roi = _Session(roi_path(onnx))
            self.dense_head = built.rpn_head
            self.roi_head = built.roi_head
        else:
            self.dense_head = built.bbox_head
        self._add_predictions = built.add_pred_to_datasample
        self.eval()

    @torch.no_grad()
    def forward(self,
                inputs: Tensor,
                data_samples: SampleList,
                mode: str = 'predict') -> SampleList:
        """Detect objects in preprocessed images (N, 3, H, W)."""
        if mode != 'predict':
            raise ValueError(f'an exported detector only predicts, but got '
                             f'mode={mode!r}')
        metas = [sample.metainfo for sample in data_samples]
        features, outputs = group_levels(self.dense.names,
                                         self.dense(self._padded(inputs)))
        found = self.dense_head.predict_by_feat(
            *outputs, batch_img_metas=metas, rescale=self.roi is None)
        if self.roi is not None:
            found = self._second_stage(features, found, metas)
        return self._add_predictions(data_samples, found)

    def _padded(self, images: Tensor) -> Tensor:
        if self.input_size is None:
            return images
        missing = [
            own - given
            for own, given in zip(self.input_size, images.shape[-2:])
        ]
        if min(missing) < 0:
            raise ValueError(
                f'the graph takes images of {self.input_size} pixels, height '
                f'and width, but got {tuple(images.shape[-2:])}')
        return F.pad(images, (0, missing[1], 0, missing[0]))

    def _second_stage(self, features: Tuple[Tensor, ...], proposals: list,
                      metas: List[dict]) -> list:
        """As mmdet's ``StandardRoIHead.predict_bbox``."""
        head, cfg = self.roi_head.bbox_head, self.roi_head.test_cfg
        extractor = self.roi_head.bbox_roi_extractor
        boxes = [image.bboxes for image in proposals]
        rois = bbox2roi(boxes)
        if len(rois) == 0:
            return empty_instances(
                metas,
                rois.device,
                task_type='bbox',
                box_type=head.predict_box_type,
                num_classes=head.num_classes)
        scores, deltas = self.roi(
            extractor(features[:extractor.num_inputs], rois))
        counts = [len(image) for image in boxes]
        return head.predict_by_feat(
            rois=rois.split(counts),
            cls_scores=scores.split(counts),
            bbox_preds=deltas.split(counts),
            batch_img_metas=metas,
            rcnn_test_cfg=cfg,
            rescale=True)


def _float_config(detector: Dict[str, Any]) -> Dict[str, Any]:
    """The config less the ternary wrapper: nothing is left to convert."""
    detector = deepcopy(detector)
    if detector.get('type') == 'TernDetector':
        detector['type'] = detector.pop('wrapped')
        detector.pop('ternary', None)
    return detector
