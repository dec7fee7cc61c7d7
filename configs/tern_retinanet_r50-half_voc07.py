_base_ = [
    './_base_/models/retinanet_r50-half.py',
    './_base_/datasets/voc07_detection.py',
    './_base_/schedules/lite-tern_12e.py', './_base_/ternary.py'
]
model = dict(type='TernDetector', wrapped='RetinaNet')
load_from = 'work_dirs/retinanet_r50-half_voc07/epoch_12.pth'
