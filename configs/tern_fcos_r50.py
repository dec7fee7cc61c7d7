# Ternary FCOS-R50; tern_retinanet_r50.py gives the reasons.
_base_ = [
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', './_base_/ternary.py'
]
model = dict(
    type='TernDetector',
    wrapped='FCOS',
    backbone=dict(
        frozen_stages=0,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None))
sync_bn = 'torch'
# 8 GPUs x 2 images = batch 16; half the float rate of 0.01.
optim_wrapper = dict(
    optimizer=dict(lr=0.005, weight_decay=0.0),
    clip_grad=dict(max_norm=10, norm_type=2))
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r50_caffe_fpn_gn-head_1x_coco/fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth'  # noqa: E501
