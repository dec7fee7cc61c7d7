# Ternary fine-tuning from a trained float twin: 12 epochs at nearly its rate,
# since a weight has to travel to a threshold, and no decay: shrinking latent
# weights does nothing to a direction but wears its thresholds.
_base_ = './lite_24e.py'
max_epochs = 12
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True)
]
