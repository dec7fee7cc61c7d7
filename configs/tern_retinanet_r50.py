# Ternary RetinaNet-R50, fine-tuned from mmdet's trained float detector.
_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', './_base_/ternary_1x.py'
]
model = dict(
    type='TernDetector', wrapped='RetinaNet', backbone=_base_.ternary_backbone)
default_hooks = _base_.ternary_hooks
# For batch 16, 8 GPUs x 2 images, as the float rate.
optim_wrapper = _base_.ternary_optim_wrapper
optim_wrapper.optimizer.lr = _base_.optim_wrapper.optimizer.lr / 2
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth'  # noqa: E501
