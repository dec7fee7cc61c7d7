"""Run an exported detector with onnxruntime under mmdet's runner."""
import os.path as osp
from copy import deepcopy
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.utils import empty_instances
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from ..files.config import model_to_build
from ..models import float_config
from .export import roi_path
from .metadata import description_of
from .networks import check_supported, group_levels
from .packages import check_onnx_packages
from .trace import Session


@MODELS.register_module()
class OnnxDetector(BaseModel):
    """A detector whose graph runs in onnxruntime.

    Put in place of a config's model it runs under ``Runner.test``, as
    tools/test_onnx.py does; only ``mode='predict'`` is there. A graph that
    puts out boxes is handed the images as they are, one by one. For a raw
    graph, preprocessing, anchors, box decoding, NMS and RoIAlign are mmdet's
    own, taken from ``detector``.

    Args:
        onnx (str): File of :func:`mmtern.deploy.save_onnx`; beside that of a
            raw two-stage detector lies its ``.roi.onnx``.
        detector (dict): The model's config. Its weights are not used.

    Raises:
        ImportError: If onnx or onnxruntime is missing.
        ValueError: If a file is no such export.
    """

    def __init__(self, onnx: str, detector: Dict[str, Any]) -> None:
        check_onnx_packages()
        session = _open(onnx)
        description = description_of(session.metadata)
        if not description:
            raise ValueError(f'{onnx!r} was not exported by mmtern')
        self.raw = description.get('form') != 'boxes'
        detector = float_config(detector)
        super().__init__(
            data_preprocessor=deepcopy(detector.get('data_preprocessor'))
            if self.raw else BaseDataPreprocessor())
        self.dense, self.description = session, description
        self.input_size: Optional[Tuple[int, int]] = None
        if description['input_size']:
            self.input_size = tuple(description['input_size'])
        built = MODELS.build(detector)
        self._add_predictions = built.add_pred_to_datasample
        self.eval()
        if not self.raw:
            return
        check_supported(built)
        self.test_cfg = built.test_cfg
        self.roi: Optional[Session] = None
        if getattr(built, 'with_rpn', False):
            self.roi = _open(roi_path(onnx))
            self.dense_head = built.rpn_head
            self.roi_head = built.roi_head
        else:
            self.dense_head = built.bbox_head

    @torch.no_grad()
    def forward(self,
                inputs: Any,
                data_samples: SampleList,
                mode: str = 'predict') -> SampleList:
        """Detect objects: in preprocessed images (N, C, H, W) with a raw
        graph, else in a list of bytes (C, H, W)."""
        if mode != 'predict':
            raise ValueError(f'an exported detector only predicts, but got '
                             f'mode={mode!r}')
        if not self.raw:
            found = [
                self._detect(image, sample.metainfo)
                for image, sample in zip(inputs, data_samples)
            ]
            return self._add_predictions(data_samples, found)
        metas = [sample.metainfo for sample in data_samples]
        features, outputs = group_levels(
            self.dense.outputs, self._run(self.dense, self._padded(inputs)))
        found = self.dense_head.predict_by_feat(
            *outputs, batch_img_metas=metas, rescale=self.roi is None)
        if self.roi is not None:
            found = self._second_stage(features, found, metas)
        return self._add_predictions(data_samples, found)

    def _detect(self, image: Tensor, meta: Dict[str, Any]) -> InstanceData:
        """Return the boxes of one image in pixels of its file."""
        image = image[[2, 1, 0]] if len(image) == 3 else image
        given = image.shape[1:]
        image = self._shrunk(image)
        height, width = image.shape[1:]
        fill = torch.tensor(self.description['fill'], dtype=torch.uint8)
        padded = self._padded(image[None], fill.view(1, -1, 1, 1)).to(
            getattr(torch, self.description.get('pixels', 'uint8')))
        boxes, scores, labels = (x[0] for x in self._run(self.dense, padded))
        if padded.shape[2:] != image.shape[1:]:
            # The graph knows no other border than the padded image's.
            limits = boxes.new_tensor([width, height, width, height])
            boxes = boxes.clamp(min=0).minimum(limits)
        shrunk = boxes.new_tensor([width / given[1], height / given[0]])
        scale = boxes.new_tensor(meta['scale_factor']) * shrunk
        return InstanceData(
            bboxes=boxes / scale.repeat(2), scores=scores, labels=labels)

    def _run(self, session: Session, value: Tensor) -> List[Tensor]:
        (name, ) = session.inputs
        outputs = session.run({name: np.ascontiguousarray(value)})
        return [torch.from_numpy(output) for output in outputs]

    def _shrunk(self, image: Tensor) -> Tensor:
        """Return an image (C, H, W) that is not larger than the graph's, as
        tools/detect.py makes it: one that stands upright where the graph is
        for images that lie."""
        sides = image.shape[1:]
        limits = self.input_size or sides
        factor = min(limits[0] / sides[0], limits[1] / sides[1])
        if factor >= 1:
            return image
        small = [max(1, int(side * factor)) for side in sides]
        smaller = F.interpolate(image[None].float(), small, mode='bilinear')
        return smaller[0].round().to(image.dtype)

    def _padded(self, images: Tensor, fill: Optional[Tensor] = None) -> Tensor:
        if self.input_size is None:
            return images
        height, width = images.shape[-2:]
        missing = [self.input_size[0] - height, self.input_size[1] - width]
        if min(missing) < 0:
            raise ValueError(
                f'the graph takes images of {self.input_size} pixels, height '
                f'and width, but got {tuple(images.shape[-2:])}')
        padded = F.pad(images, (0, missing[1], 0, missing[0]))
        if fill is not None:
            padded[..., height:, :] = fill
            padded[..., width:] = fill
        return padded

    def _second_stage(self, features: Tuple[Tensor, ...], proposals: list,
                      metas: List[dict]) -> list:
        """Compute what mmdet's ``StandardRoIHead.predict_bbox`` does."""
        assert self.roi is not None
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
        scores, deltas = self._run(
            self.roi, extractor(features[:extractor.num_inputs], rois))
        counts = [len(image) for image in boxes]
        return head.predict_by_feat(
            rois=rois.split(counts),
            cls_scores=scores.split(counts),
            bbox_preds=deltas.split(counts),
            batch_img_metas=metas,
            rcnn_test_cfg=cfg,
            rescale=True)


def run_in_place(cfg: Config, path: str) -> None:
    """Put an exported file in the place of a config's model, for a runner that
    tests it.

    Args:
        cfg (Config): Changed in place.
        path (str): File of :func:`mmtern.deploy.save_onnx`.
    """
    cfg.model = dict(
        type='mmdet.OnnxDetector', onnx=path, detector=model_to_build(cfg))
    # The runner would hand it to this model.
    cfg.pop('data_preprocessor', None)
    cfg.load_from = None
    # Hooks that look after ternary layers have nothing to do here.
    cfg.custom_hooks = []


def _open(path: str) -> Session:
    if not osp.isfile(path):
        raise FileNotFoundError(f'{path!r} does not exist')
    return Session(path)
