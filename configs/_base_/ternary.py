# What every ternary config adds beside its model's wrapper.
custom_imports = dict(imports=['mmtern'], allow_failed_imports=False)
custom_hooks = [
    dict(type='TernaryScheduleHook'),
    dict(type='TernaryStatisticsHook'),
    dict(type='TernaryGuardHook')
]
