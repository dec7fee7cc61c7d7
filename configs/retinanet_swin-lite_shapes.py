_base_ = [
    './_base_/models/retinanet_swin-lite.py',
    './_base_/datasets/shapes_detection.py', './_base_/schedules/lite_24e.py'
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
