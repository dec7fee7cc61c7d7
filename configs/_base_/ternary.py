# What every ternary config adds beside its model's wrapper. mmengine refuses
# two bases that set the same key, and most bases set default_hooks, so the
# hooks have a key of their own, to be taken by the child:
#     default_hooks = _base_.ternary_hooks
# There they join the base's hooks; custom_hooks would replace the base's.
custom_imports = dict(imports=['mmtern'], allow_failed_imports=False)
ternary_hooks = dict(
    # By default half of the run approaches ternary weights, the other half is
    # ternary. Not set here, so that a child can set a number or a dict.
    ternary=dict(type='TernaryScheduleHook'),
    # Weak, so that the detector's own loss leads, and over where the weights
    # are ternary anyway.
    regularizer=dict(type='TernaryRegularizerHook', end=0.5),
    # The float detector that the run begins from teaches what it computes,
    # which wants a trained one: ternary_lite.py goes without.
    distillation=dict(type='TernaryDistillationHook'),
    statistics=dict(type='TernaryStatisticsHook'),
    # What is validated and saved has the statistics of its own weights.
    batch_norm=dict(type='TernaryBatchNormHook'),
    guard=dict(type='TernaryGuardHook'))
