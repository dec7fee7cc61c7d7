"""The methods that the accuracy benchmark compares, and mmtern's ablations."""
from dataclasses import dataclass, replace
from functools import reduce
from typing import Optional, Sequence


@dataclass(frozen=True)
class Method:
    """Ternary settings and what the schedule does with them.

    Attributes:
        ternary (dict, optional): Keys of ``ternary=dict(...)`` in the model
            config; None trains on in float.
        schedule (dict): Arguments of ``TernaryScheduleHook``.
        regularizer (dict, optional): Arguments of
            ``TernaryRegularizerHook``.
        options (dict): Further config overrides.
        distillation (dict, optional): Arguments of
            ``TernaryDistillationHook``; the teacher is the shared float model.
        hooks (list[dict]): Further hooks.
    """
    ternary: Optional[dict]
    schedule: dict
    regularizer: Optional[dict] = None
    options: Optional[dict] = None
    distillation: Optional[dict] = None
    hooks: Sequence[dict] = ()


# Of the main table; the controls run only where they are asked for.
MAIN_METHODS = {
    'fp':
    Method(None, {}),
    'twn':
    Method(
        dict(threshold='mean', scale='lsq', floor=1.0),
        dict(begin=0, temperature=(0.0, 0.0))),
    'ttq':
    Method(
        dict(threshold='max', scale='ttq', floor=1.0),
        dict(begin=0, temperature=(0.0, 0.0))),
    'soft':
    Method(
        dict(threshold='mean', scale='lsq', forward='soft'),
        dict(begin=0, temperature=(1.0, 20.0))),
    'mmtern':
    Method({}, {}),
    # As released first: ternary from the first step on.
    'mmtern-0.1':
    Method({}, dict(begin=0)),
}

# The learning rate stays up for the first half.
LATE_COSINE = {
    'param_scheduler.1.begin': 2,
    'param_scheduler.1.T_max': 2,
}

# TWN with the float model as a teacher, and with relative steps: what of a
# gain of mmtern's is the teacher's, the steps'.
CONTROLS = {
    'twn-distilled':
    replace(MAIN_METHODS['twn'], distillation={}),
    'twn-flat-cosine':
    replace(MAIN_METHODS['twn'], options=LATE_COSINE),
    'twn-relative':
    replace(
        MAIN_METHODS['twn'],
        ternary=dict(MAIN_METHODS['twn'].ternary, reference_rms=0.03)),
}

METHODS = {**MAIN_METHODS, **CONTROLS}

# One change to mmtern each.
ABLATIONS = {
    'no-pull':
    Method({}, {}),
    'flat-cosine':
    Method({}, {}, None, LATE_COSINE),
    'no-approach':
    Method({}, dict(begin=0)),
    'approach-square':
    Method({}, dict(power=2.0)),
    'approach-root':
    Method({}, dict(power=0.5)),
    'begin0.35':
    Method({}, dict(begin=0.35)),
    'begin0.65':
    Method({}, dict(begin=0.65)),
    'pull1e-5':
    Method({}, {}, dict(loss_weight=1e-5, end=0.5)),
    'pull1e-4':
    Method({}, {}, dict(loss_weight=1e-4, end=0.5)),
    'pull1e-3':
    Method({}, {}, dict(loss_weight=1e-3, end=0.5)),
    'plain-ste':
    Method({}, dict(temperature=(0.0, 0.0))),
    'constant-T4':
    Method({}, dict(temperature=(4.0, 4.0))),
    'T0-8':
    Method({}, dict(temperature=(0.0, 8.0))),
    'search-each-step':
    Method(dict(refresh_interval=1), {}),
    'floor0':
    Method(dict(floor=0.0), {}),
    'floor0.5':
    Method(dict(floor=0.5), {}),
    'unnormalized':
    Method(dict(normalize=False), {}),
    'update':
    Method(dict(rescale='update'), {}),
    'relative':
    Method(dict(reference_rms=0.03), {}),
    'update-relative':
    Method(dict(rescale='update', reference_rms=0.03), {}),
    'exact-threshold':
    Method(dict(threshold='exact'), {}),
    'scale-lsq':
    Method(dict(scale='lsq'), {}),
    'scale-learned':
    Method(dict(scale='learned'), {}),
    'approach-weak':
    Method({}, dict(begin=2), dict(loss_weight=1e-4, end=2)),
    'approach-strong':
    Method({}, dict(begin=2), dict(loss_weight=1e-3, end=2)),
    # A third of the real budget.
    'approach-long':
    Method({}, dict(begin=12), dict(loss_weight=1e-4, end=12)),
    'pull-to-the-end':
    Method({}, {}, dict(loss_weight=1e-4)),
    'pull-late':
    Method({}, {}, dict(loss_weight=1e-4, begin=6)),
    'staged':
    Method({}, dict(begin=dict(backbone=0, neck=1, bbox_head=2))),
    'weight-decay':
    Method({}, {}, None, {'optim_wrapper.optimizer.weight_decay': 0.01}),
    'frozen-bn':
    Method({}, {}, None, {'model.backbone.norm_eval': True}),
    'distillation':
    Method({}, {}, distillation={}),
    'distillation-weak':
    Method({}, {}, distillation=dict(loss_weight=1.0)),
    'distillation-head':
    Method({}, {}, distillation=dict(head_weight=2.0)),
    'batch-norm':
    Method({}, {}, hooks=[dict(type='TernaryBatchNormHook')]),
    'averaging':
    Method({}, {}, hooks=[dict(type='EMAHook', momentum=0.01)]),
}


def ablation(name: str) -> Method:
    """Settings of an ablation.

    Args:
        name (str): A key of ``ABLATIONS``, or several joined by ``+``: their
            changes made together.

    Raises:
        KeyError: If a part is unknown.
    """
    return reduce(_both, (ABLATIONS[part] for part in name.split('+')))


def _both(first: Method, second: Method) -> Method:

    def union(one: Optional[dict], other: Optional[dict]) -> Optional[dict]:
        return one if other is None else dict(one or {}, **other)

    return Method(
        union(first.ternary, second.ternary),
        union(first.schedule, second.schedule),
        union(first.regularizer, second.regularizer),
        union(first.options, second.options),
        union(first.distillation, second.distillation),
        [*first.hooks, *second.hooks])
