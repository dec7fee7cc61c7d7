# For a GPU: an epoch takes two CPU cores several minutes.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    './_base_/datasets/bccd-640_detection.py', './_base_/schedules/lite_24e.py'
]
model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None),
    bbox_head=dict(num_classes=3))
