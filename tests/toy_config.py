"""Config of the toy run for tools/train.py, in processes of their own."""
custom_imports = dict(
    imports=['mmtern', 'tests.toy_types'], allow_failed_imports=False)
default_scope = 'mmdet'
model = dict(type='FrozenNormToy')
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ToyData'))
train_cfg = dict(by_epoch=True, max_epochs=6)
# Not Adam: its first steps make an error of rounding a full step.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
custom_hooks = [
    dict(type='TernaryScheduleHook', begin=1),
    dict(type='TernaryRegularizerHook', loss_weight=1e-2),
    dict(type='TernaryStatisticsHook', interval=1),
    dict(type='TernaryGuardHook', interval=1),
    dict(type='RankWatch')
]
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    logger=dict(type='LoggerHook', interval=1))
randomness = dict(seed=0)
log_level = 'ERROR'
