_base_ = [
    './_base_/models/deformable_detr_r18-lite.py',
    './_base_/datasets/shapes_detection.py', './_base_/schedules/lite_24e.py'
]
optim_wrapper = dict(
    optimizer=dict(lr=4e-4), clip_grad=dict(max_norm=0.1, norm_type=2))
