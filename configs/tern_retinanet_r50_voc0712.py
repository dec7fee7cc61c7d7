# Ternary RetinaNet-R50 on VOC 07+12.
_base_ = [
    'mmdet::pascal_voc/retinanet_r50_fpn_1x_voc0712.py',
    './_base_/ternary_1x.py'
]
model = dict(
    type='TernDetector', wrapped='RetinaNet', backbone=_base_.ternary_backbone)
default_hooks = _base_.ternary_hooks
# For batch 16, 8 GPUs x 2 images, as the float rate.
optim_wrapper = _base_.ternary_optim_wrapper
optim_wrapper.optimizer.lr = _base_.optim_wrapper.optimizer.lr / 2
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/pascal_voc/retinanet_r50_fpn_1x_voc0712/retinanet_r50_fpn_1x_voc0712_20200617-47cbdd0e.pth'  # noqa: E501
