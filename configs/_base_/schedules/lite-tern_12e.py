# Ternary fine-tuning from a trained float twin: 12 epochs at nearly its rate,
# since a weight has to travel to a threshold, and no decay: shrinking latent
# weights does nothing to a filter's direction but brings its weights nearer to
# their threshold.
_base_ = './lite_24e.py'
max_epochs = 12
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.0))
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 20
param_scheduler[1].update(end=max_epochs, T_max=max_epochs)
