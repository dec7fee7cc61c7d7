"""mmdet's own detectors with few channels, and small inputs for them."""
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

CLASSES = 3


def small_retinanet(**backbone) -> ConfigDict:
    """RetinaNet-R18 with 16 channels; ``backbone`` overrides its keys."""
    model = get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py').model
    model.backbone.update(base_channels=8, init_cfg=None, **backbone)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.bbox_head.update(
        in_channels=16, feat_channels=16, stacked_convs=1, num_classes=CLASSES)
    return model


def small_faster_rcnn() -> ConfigDict:
    """Faster R-CNN-R18 with 16 channels."""
    model = get_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    model = model.model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    model.roi_head.bbox_head.update(
        in_channels=16, fc_out_channels=32, num_classes=CLASSES)
    return model


def small_fcos(**backbone) -> ConfigDict:
    """FCOS-R18 with 16 channels; ``backbone`` overrides its keys."""
    model = get_config('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py')
    model = model.model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None, **backbone)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.bbox_head.update(
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=4),
        num_classes=CLASSES)
    return model


def ternary_twin(model: ConfigDict, **ternary) -> ConfigDict:
    """The same config with the wrapper around it."""
    return ConfigDict(
        model, type='TernDetector', wrapped=model.type, ternary=ternary)


def soft_teacher(**backbone) -> ConfigDict:
    """A ternary Faster R-CNN inside another detector."""
    small = small_faster_rcnn()
    small.backbone.update(backbone)
    return ConfigDict(
        type='SoftTeacher',
        detector=ternary_twin(small),
        data_preprocessor=dict(
            type='MultiBranchDataPreprocessor',
            data_preprocessor=small.data_preprocessor),
        semi_train_cfg=dict(freeze_teacher=True),
        semi_test_cfg=dict(predict_on='teacher'))


def build(model: ConfigDict) -> torch.nn.Module:
    """Build with fixed random numbers."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MODELS.build(model)


def images(side: int = 64, **kwargs) -> dict:
    """Two images with boxes of the classes 0, 1 and 2."""
    batch = demo_mm_inputs(
        image_shapes=(3, side, side), num_items=[3, 2], **kwargs)
    for sample in batch['data_samples']:
        sample.gt_instances.labels %= CLASSES
    return batch


def loss_of(detector: torch.nn.Module, batch: dict) -> torch.Tensor:
    """Total loss of a batch, as a training step computes it."""
    torch.manual_seed(0)  # samplers
    data = detector.data_preprocessor(batch, True)
    return detector.parse_losses(detector(**data, mode='loss'))[0]
