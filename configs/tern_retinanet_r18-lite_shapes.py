_base_ = [
    './_base_/models/retinanet_r18-lite.py',
    './_base_/datasets/shapes_detection.py',
    './_base_/schedules/lite-tern_12e.py', './_base_/ternary_lite.py'
]
model = dict(type='TernDetector', wrapped='RetinaNet')
default_hooks = _base_.ternary_hooks
load_from = 'work_dirs/retinanet_r18-lite_shapes/epoch_24.pth'
