_base_ = [
    './_base_/models/retinanet_r50-half.py',
    './_base_/datasets/voc07_detection.py',
    './_base_/schedules/voc07-lite_12e.py'
]
