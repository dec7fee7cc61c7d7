# Ternary Faster R-CNN-R50 on VOC 07+12; tern_retinanet_r50.py gives the
# reasons.
_base_ = [
    'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py',
    './_base_/ternary.py'
]
model = dict(
    type='TernDetector',
    wrapped='FasterRCNN',
    backbone=dict(frozen_stages=0, norm_eval=False, init_cfg=None))
sync_bn = 'torch'
# 8 GPUs x 2 images = batch 16; half the float rate of 0.01.
optim_wrapper = dict(
    optimizer=dict(lr=0.005, weight_decay=0.0),
    clip_grad=dict(max_norm=10, norm_type=2))
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/pascal_voc/faster_rcnn_r50_fpn_1x_voc0712/faster_rcnn_r50_fpn_1x_voc0712_20220320_192712-54bef0f3.pth'  # noqa: E501
