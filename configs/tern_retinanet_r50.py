# Ternary RetinaNet-R50, fine-tuned from mmdet's trained float detector.
_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', './_base_/ternary.py'
]
# A frozen stage could not adapt to its ternary weights, nor frozen statistics
# to what these put out; load_from replaces the backbone's own checkpoint.
model = dict(
    type='TernDetector',
    wrapped='RetinaNet',
    backbone=dict(frozen_stages=0, norm_eval=False, init_cfg=None))
# Statistics over all GPUs: two images are too few. Without effect on one.
sync_bn = 'torch'
# 8 GPUs x 2 images = batch 16; half the float rate of 0.01.
optim_wrapper = dict(
    optimizer=dict(lr=0.005, weight_decay=0.0),
    clip_grad=dict(max_norm=10, norm_type=2))
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth'  # noqa: E501
