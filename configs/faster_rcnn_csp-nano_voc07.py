_base_ = [
    './_base_/models/faster-rcnn_csp-nano.py',
    './_base_/datasets/voc07_padded-256.py',
    './_base_/schedules/voc07-csp_4e.py'
]
