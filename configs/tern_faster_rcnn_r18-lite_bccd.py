_base_ = [
    './_base_/models/faster-rcnn_r18-lite.py',
    './_base_/datasets/bccd_detection.py',
    './_base_/schedules/lite-tern_12e.py', './_base_/ternary_lite.py'
]
model = dict(type='TernDetector', wrapped='FasterRCNN')
default_hooks = _base_.ternary_hooks
load_from = 'work_dirs/faster_rcnn_r18-lite_bccd/epoch_24.pth'
