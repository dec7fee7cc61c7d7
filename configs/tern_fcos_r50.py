# Ternary FCOS-R50.
_base_ = [
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    './_base_/ternary_1x.py'
]
# The caffe backbone's BatchNorm is frozen twice.
ternary_backbone = _base_.ternary_backbone
ternary_backbone.norm_cfg = dict(requires_grad=True)
model = dict(type='TernDetector', wrapped='FCOS', backbone=ternary_backbone)
default_hooks = _base_.ternary_hooks
# For batch 16, 8 GPUs x 2 images, as the float rate.
optim_wrapper = _base_.ternary_optim_wrapper
optim_wrapper.optimizer.lr = _base_.optim_wrapper.optimizer.lr / 2
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r50_caffe_fpn_gn-head_1x_coco/fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth'  # noqa: E501
