# Ternary Mask R-CNN-R50; tern_retinanet_r50.py gives the reasons.
_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', './_base_/ternary.py'
]
model = dict(
    type='TernDetector',
    wrapped='MaskRCNN',
    backbone=dict(frozen_stages=0, norm_eval=False, init_cfg=None))
sync_bn = 'torch'
# 8 GPUs x 2 images = batch 16; half the float rate of 0.02.
optim_wrapper = dict(
    optimizer=dict(lr=0.01, weight_decay=0.0),
    clip_grad=dict(max_norm=10, norm_type=2))
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_1x_coco/mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth'  # noqa: E501
