"""Hooks of the training run."""
from .guard import TernaryGuardHook
from .regularizer import TernaryRegularizerHook
from .schedule import TernaryScheduleHook
from .statistics import TernaryStatisticsHook

__all__ = [
    'TernaryGuardHook', 'TernaryRegularizerHook', 'TernaryScheduleHook',
    'TernaryStatisticsHook'
]
