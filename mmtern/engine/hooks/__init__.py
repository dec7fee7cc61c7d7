"""Hooks of the training run."""
from .batch_norm import TernaryBatchNormHook
from .guard import TernaryGuardHook
from .regularizer import TernaryRegularizerHook
from .schedule import TernaryScheduleHook
from .statistics import TernaryStatisticsHook

__all__ = [
    'TernaryBatchNormHook', 'TernaryGuardHook', 'TernaryRegularizerHook',
    'TernaryScheduleHook', 'TernaryStatisticsHook'
]
