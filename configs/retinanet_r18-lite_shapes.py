_base_ = [
    './_base_/models/retinanet_r18-lite.py',
    './_base_/datasets/shapes_detection.py', './_base_/schedules/lite_24e.py'
]
