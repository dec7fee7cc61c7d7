# Ternary RetinaNet-R18; tern_retinanet_r50.py gives the reasons.
_base_ = [
    'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', './_base_/ternary.py'
]
model = dict(
    type='TernDetector',
    wrapped='RetinaNet',
    backbone=dict(frozen_stages=0, norm_eval=False, init_cfg=None))
sync_bn = 'torch'
# 8 GPUs x 2 images = batch 16; half the float rate of 0.01.
optim_wrapper = dict(
    optimizer=dict(lr=0.005, weight_decay=0.0),
    clip_grad=dict(max_norm=10, norm_type=2))
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r18_fpn_1x_coco/retinanet_r18_fpn_1x_coco_20220407_171055-614fd399.pth'  # noqa: E501
