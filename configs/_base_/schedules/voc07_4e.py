# Fine-tuning of a detector that is trained already: SGD, cosine, 4 epochs, no
# decay, for the float rival and the ternary detectors alike.
_base_ = './lite_24e.py'
max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
# Batch size 16 on one device.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.004, momentum=0.9, nesterov=True, weight_decay=0.0),
    clip_grad=dict(max_norm=20, norm_type=2))
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor = 0.1
param_scheduler[1].update(end=max_epochs, T_max=max_epochs, eta_min_ratio=0.02)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(
        _delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=1))
