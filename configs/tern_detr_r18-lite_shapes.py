_base_ = [
    './_base_/models/detr_r18-lite.py',
    './_base_/datasets/shapes_detection.py',
    './_base_/schedules/lite-tern_12e.py', './_base_/ternary_lite.py'
]
model = dict(type='TernDetector', wrapped='DETR')
optim_wrapper = dict(
    optimizer=dict(lr=4e-4), clip_grad=dict(max_norm=0.1, norm_type=2))
default_hooks = _base_.ternary_hooks
load_from = 'work_dirs/detr_r18-lite_shapes/epoch_24.pth'
