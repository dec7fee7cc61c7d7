# Ternary Mask R-CNN-R50.
_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', './_base_/ternary_1x.py'
]
model = dict(
    type='TernDetector', wrapped='MaskRCNN', backbone=_base_.ternary_backbone)
default_hooks = _base_.ternary_hooks
# For batch 16, 8 GPUs x 2 images, as the float rate.
optim_wrapper = _base_.ternary_optim_wrapper
optim_wrapper.optimizer.lr = _base_.optim_wrapper.optimizer.lr / 2
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_1x_coco/mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth'  # noqa: E501
