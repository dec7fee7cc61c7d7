"""The methods that the accuracy benchmark compares, and what it changes in
mmtern."""
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Optional, Sequence


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
        hooks (list[dict]): Further hooks.
        batch_norm (int, optional): Batches of ``TernaryBatchNormHook``; 0
            leaves it out.
        distillation (float, optional): Weight of
            ``TernaryDistillationHook``; 0 leaves it out.
        modules (list[str], optional): Its ``modules`` that teach.
    """
    ternary: Optional[dict]
    schedule: dict
    regularizer: Optional[dict] = None
    options: Optional[dict] = None
    hooks: Sequence[dict] = ()
    batch_norm: Optional[int] = None
    distillation: Optional[float] = None
    modules: Optional[Sequence[str]] = None


# The learning rate stays up for the first two epochs of four.
LATE_COSINE = {
    'param_scheduler.1.begin': 2,
    'param_scheduler.1.T_max': 2,
}

# As configs/_base_/ternary.py has it.
MMTERN = Method({}, {},
                dict(loss_weight=1e-4, end=0.5),
                batch_norm=20,
                distillation=5.0)

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
    MMTERN,
}

CONTROLS = {
    # As released first: ternary from the first step on, no regularizer.
    'mmtern-0.1': Method({}, dict(begin=0)),
    'twn-batch-norm': replace(MAIN_METHODS['twn'], batch_norm=20),
    'twn-distilled': replace(MAIN_METHODS['twn'], distillation=5.0),
    'twn-flat-cosine': replace(MAIN_METHODS['twn'], options=LATE_COSINE),
}

METHODS = {**MAIN_METHODS, **CONTROLS}

# As the texts call them, in tables and plots.
NAMES = {
    'fp': 'float',
    'twn': 'TWN',
    'ttq': 'TTQ',
    'soft': 'soft forward',
    'mmtern-0.1': 'mmtern 0.1',
    'twn-batch-norm': "TWN, BatchNorm's statistics estimated anew",
    'twn-distilled': 'TWN, distilled',
    'twn-flat-cosine': 'TWN, flat cosine',
}

# Without the regularizer.
NO_PULL = dict(loss_weight=0.0)

# One change to mmtern each.
ABLATIONS = {
    'no-pull':
    Method({}, {}, NO_PULL),
    # The approach phase as a loss alone, strong enough to be felt.
    'pull-alone':
    Method({}, dict(approach='float'), dict(loss_weight=1e-2)),
    'no-approach':
    Method({}, dict(begin=0), NO_PULL),
    'no-batch-norm':
    Method({}, {}, batch_norm=0),
    'no-distillation':
    Method({}, {}, distillation=0),
    'neck-teaches':
    Method({}, {}, modules=('neck', )),
    'neck-and-head-teach':
    Method({}, {}, modules=('neck', 'bbox_head')),
    'begin0.35':
    Method({}, dict(begin=0.35)),
    'begin0.65':
    Method({}, dict(begin=0.65)),
    'pull1e-3':
    Method({}, {}, dict(loss_weight=1e-3)),
    'pull-to-the-end':
    Method({}, {}, dict(end=None)),
    'flat-cosine':
    Method({}, {}, None, LATE_COSINE),
    'staged':
    Method({}, dict(begin=dict(backbone=0.3, neck=0.4, bbox_head=0.5))),
    'plain-ste':
    Method({}, dict(temperature=(0.0, 0.0))),
    'constant-T4':
    Method({}, dict(temperature=(4.0, 4.0))),
    'T0-8':
    Method({}, dict(temperature=(0.0, 8.0))),
    'floor0':
    Method(dict(floor=0.0), {}),
    'floor0.5':
    Method(dict(floor=0.5), {}),
    'unnormalized':
    Method(dict(normalize=False), {}),
    'exact-threshold':
    Method(dict(threshold='exact'), {}),
    'scale-lsq':
    Method(dict(scale='lsq'), {}),
    'weight-decay':
    Method({}, {}, None, {'optim_wrapper.optimizer.weight_decay': 0.01}),
    'frozen-bn':
    Method({}, {}, None, {'model.backbone.norm_eval': True}),
    'averaging':
    Method({}, {}, hooks=[dict(type='EMAHook', momentum=0.01)]),
}


def ablation(name: str) -> Method:
    """Settings of mmtern with a change.

    Args:
        name (str): A key of ``ABLATIONS``, or several joined by ``+``: their
            changes made together.

    Raises:
        KeyError: If a part is unknown.
    """
    return reduce(_both, (ABLATIONS[part] for part in name.split('+')), MMTERN)


def _both(first: Method, second: Method) -> Method:

    def union(one: Optional[dict], other: Optional[dict]) -> Optional[dict]:
        return one if other is None else dict(one or {}, **other)

    def last(one: Any, other: Any) -> Any:
        return one if other is None else other

    return Method(
        union(first.ternary, second.ternary),
        union(first.schedule, second.schedule),
        union(first.regularizer, second.regularizer),
        union(first.options, second.options), [*first.hooks, *second.hooks],
        last(first.batch_norm, second.batch_norm),
        last(first.distillation, second.distillation),
        last(first.modules, second.modules))
