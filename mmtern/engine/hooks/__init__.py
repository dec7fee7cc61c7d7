"""Hooks of the training run."""
from .distillation import TernaryDistillationHook
from .guard import TernaryGuardHook
from .regularizer import TernaryRegularizerHook
from .schedule import TernaryScheduleHook
from .statistics import TernaryStatisticsHook

__all__ = [
    'TernaryDistillationHook', 'TernaryGuardHook', 'TernaryRegularizerHook',
    'TernaryScheduleHook', 'TernaryStatisticsHook'
]
