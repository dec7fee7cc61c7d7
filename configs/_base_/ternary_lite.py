# For small detectors that begin from few epochs of training from scratch: such
# a start is no teacher, it holds back what would learn on (docs/results.md).
_base_ = './ternary.py'
ternary_hooks = dict(
    distillation=dict(loss_weight=0),
    statistics=dict(interval=10))  # the logger's
