# Ternary Faster R-CNN-R18.
_base_ = ['./faster_rcnn_r18.py', './_base_/ternary_1x.py']
model = dict(
    type='TernDetector',
    wrapped='FasterRCNN',
    backbone=_base_.ternary_backbone)
default_hooks = _base_.ternary_hooks
# For batch 16, 8 GPUs x 2 images, as the float rate.
optim_wrapper = _base_.ternary_optim_wrapper
optim_wrapper.optimizer.lr = _base_.optim_wrapper.optimizer.lr / 2
# Trained by configs/faster_rcnn_r18.py.
load_from = 'work_dirs/faster_rcnn_r18/epoch_12.pth'
