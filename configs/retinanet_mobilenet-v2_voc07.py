_base_ = [
    './_base_/models/retinanet_mobilenet-v2.py',
    './_base_/datasets/voc07_detection.py',
    './_base_/schedules/voc07-lite_12e.py'
]
