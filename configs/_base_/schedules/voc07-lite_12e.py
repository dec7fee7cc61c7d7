# From a trained backbone: AdamW, cosine, 12 epochs.
_base_ = './lite_24e.py'
max_epochs = 12
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 200
param_scheduler[1].update(end=max_epochs, T_max=max_epochs)
