# Both phases of the method, for the embedded data to show. For three epochs
# the regularizer gathers weights near their ternary directions, then the
# forward is ternary.
custom_imports = dict(imports=['mmtern'], allow_failed_imports=False)
ternary_hooks = dict(
    ternary=dict(type='TernaryScheduleHook', begin=3),
    regularizer=dict(type='TernaryRegularizerHook', loss_weight=5e-4, end=3),
    statistics=dict(type='TernaryStatisticsHook', interval=10),
    guard=dict(type='TernaryGuardHook'))
