# Ternary RetinaNet-R50 on VOC 07+12; tern_retinanet_r50.py gives the reasons.
_base_ = [
    'mmdet::pascal_voc/retinanet_r50_fpn_1x_voc0712.py', './_base_/ternary.py'
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
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/pascal_voc/retinanet_r50_fpn_1x_voc0712/retinanet_r50_fpn_1x_voc0712_20200617-47cbdd0e.pth'  # noqa: E501
