# What every ternary config adds beside its model's wrapper: in the first half
# of the run layers approach their ternary weights, while a weak regularizer in
# the detector's loss turns filters towards them; then the forward is ternary.
custom_imports = dict(imports=['mmtern'], allow_failed_imports=False)
custom_hooks = [
    dict(type='TernaryScheduleHook'),
    dict(type='TernaryRegularizerHook', loss_weight=1e-4, end=0.5),
    dict(type='TernaryStatisticsHook'),
    dict(type='TernaryGuardHook')
]
