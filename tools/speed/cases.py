"""Detectors and image sizes that the speed benchmark times."""
import os.path as osp
from dataclasses import dataclass
from typing import Dict, Iterator, Optional, Tuple

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.structures import InstanceData
from torch import nn

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


@dataclass(frozen=True)
class Case:
    """A float config, the images' height and width in pixels, the batch, a
    ResNet of other depth where given, and the share of zeros over the ternary
    twin."""
    config: str
    size: Tuple[int, int]
    batch: int
    depth: Optional[int] = None
    model_sparsity: float = 0.0

    def build(self, ternary: bool) -> nn.Module:
        """The detector, float or ternary, with the same seeded weights."""
        if self.config.startswith('mmdet::'):
            cfg = get_config(self.config)
            cfg.model.backbone.init_cfg = None
        else:
            cfg = Config.fromfile(osp.join(REPOSITORY, self.config))
        if self.depth is not None:
            cfg.model.backbone.depth = self.depth
        # As the shipped ternary configs: only the stem is frozen.
        cfg.model.backbone.frozen_stages = 0
        model_cfg = cfg.model
        if ternary:
            model_cfg = dict(
                model_cfg,
                type='TernDetector',
                wrapped=model_cfg.type,
                ternary=dict(model_sparsity=self.model_sparsity))
        torch.manual_seed(0)
        return MODELS.build(model_cfg)

    def data(self, device: str) -> dict:
        """A batch as the data preprocessor leaves it: eight boxes an
        image."""
        generator = torch.Generator().manual_seed(0)
        height, width = self.size
        samples = []
        for _ in range(self.batch):
            corner = torch.rand(8, 2, generator=generator) * 0.6
            extent = torch.rand(8, 2, generator=generator) * 0.3 + 0.05
            boxes = torch.cat([corner, corner + extent], 1)
            boxes *= torch.tensor([width, height, width, height])
            sample = DetDataSample(
                metainfo=dict(
                    img_shape=self.size,
                    ori_shape=self.size,
                    pad_shape=self.size,
                    batch_input_shape=self.size,
                    scale_factor=(1.0, 1.0)))
            sample.gt_instances = InstanceData(
                bboxes=boxes,
                labels=torch.randint(0, 3, (8, ), generator=generator))
            samples.append(sample.to(device))
        images = torch.randn(self.batch, 3, height, width, generator=generator)
        return dict(inputs=images.to(device), data_samples=samples)


RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
FASTER_RCNN = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

CASES: Dict[str, Case] = {
    'retinanet-r18-lite': Case('configs/retinanet_r18-lite_bccd.py',
                               (256, 320), 8),
    'retinanet-r50-320': Case(RETINANET, (320, 320), 2),
    'retinanet-r50-320-sparse':
    Case(RETINANET, (320, 320), 2, model_sparsity=0.8),
    'faster-rcnn-r50-320': Case(FASTER_RCNN, (320, 320), 2),
    'retinanet-r50-800': Case(RETINANET, (800, 1344), 1),
    'faster-rcnn-r50-800': Case(FASTER_RCNN, (800, 1344), 1),
    'retinanet-r50-800-batch2': Case(RETINANET, (800, 1344), 2),
    'faster-rcnn-r50-800-batch2': Case(FASTER_RCNN, (800, 1344), 2),
    # The benchmark's own test.
    'smoke': Case('configs/retinanet_r18-lite_shapes.py', (64, 64), 1),
}

# mmdet's batch, too slow for a CPU.
GPU_CASES = [name for name in CASES if name.endswith('-batch2')]


def scaling_cases() -> Iterator[Tuple[str, Case]]:
    """One image each: of several sizes, then for several ResNets. What is on
    the axis, 'pixels' or 'weights', and the case."""
    for side in (128, 192, 256, 320, 448):
        yield 'pixels', Case(RETINANET, (side, side), 1)
    for depth in (50, 101, 152):
        yield 'weights', Case(RETINANET, (192, 192), 1, depth)
