_base_ = [
    './_base_/models/retinanet_csp-nano.py',
    './_base_/datasets/voc07_padded-256.py',
    './_base_/schedules/voc07-csp_4e.py', './_base_/ternary.py'
]
model = dict(type='TernDetector', wrapped='RetinaNet')
default_hooks = _base_.ternary_hooks
# Weights have to travel to a threshold.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
load_from = 'work_dirs/retinanet_csp-nano_voc07/epoch_4.pth'
