# Ternary Faster R-CNN-R18; tern_retinanet_r50.py gives the reasons.
_base_ = ['./faster_rcnn_r18.py', './_base_/ternary.py']
model = dict(
    type='TernDetector',
    wrapped='FasterRCNN',
    backbone=dict(frozen_stages=0, norm_eval=False, init_cfg=None))
sync_bn = 'torch'
# 8 GPUs x 2 images = batch 16; half the float rate of 0.02.
optim_wrapper = dict(
    optimizer=dict(lr=0.01, weight_decay=0.0),
    clip_grad=dict(max_norm=10, norm_type=2))
# Trained by configs/faster_rcnn_r18.py.
load_from = 'work_dirs/faster_rcnn_r18/epoch_12.pth'
