# Both phases of the method, for the embedded data to show; they gain nothing
# over ternary.py. For three epochs the regularizer gathers weights near their
# ternary directions in full precision, then the forward is ternary.
custom_imports = dict(imports=['mmtern'], allow_failed_imports=False)
custom_hooks = [
    dict(type='TernaryScheduleHook', begin=3),
    dict(type='TernaryRegularizerHook', loss_weight=5e-4, end=3),
    dict(type='TernaryStatisticsHook', interval=10),
    dict(type='TernaryGuardHook')
]
