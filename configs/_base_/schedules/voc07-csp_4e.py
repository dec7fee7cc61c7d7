# A new head on the backbone and neck of a trained detector: AdamW, cosine, 4
# epochs of batches of 16.
_base_ = './lite_24e.py'
max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=5e-4, weight_decay=0.0))
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 100
param_scheduler[1].update(end=max_epochs, T_max=max_epochs)
auto_scale_lr = dict(base_batch_size=16)
