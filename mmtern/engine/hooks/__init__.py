"""Hooks of the training run."""
from .batch_norm import TernaryBatchNormHook
from .distillation import TernaryDistillationHook
from .guard import TernaryGuardHook
from .regularizer import TernaryRegularizerHook
from .schedule import TernaryScheduleHook
from .statistics import TernaryStatisticsHook

__all__ = [
    'TernaryBatchNormHook', 'TernaryDistillationHook', 'TernaryGuardHook',
    'TernaryRegularizerHook', 'TernaryScheduleHook', 'TernaryStatisticsHook'
]
