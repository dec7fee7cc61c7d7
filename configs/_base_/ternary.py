# What every ternary config adds beside its model's wrapper. mmengine refuses
# two bases that set the same key, and most bases set default_hooks, so the
# hooks have a key of their own, to be taken by the child:
#     default_hooks = _base_.ternary_hooks
# There they join the base's hooks; custom_hooks would replace the base's.
custom_imports = dict(imports=['mmtern'], allow_failed_imports=False)
ternary_hooks = dict(
    ternary=dict(type='TernaryScheduleHook'),
    # The regularizer of both phases, weak: AdamW and SGD at the rates of our
    # schedules keep following the detector's own loss.
    regularizer=dict(type='TernaryRegularizerHook', loss_weight=1e-5),
    statistics=dict(type='TernaryStatisticsHook'),
    guard=dict(type='TernaryGuardHook'))
