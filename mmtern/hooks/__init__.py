"""Hooks of the training run."""
from .regularizer import TernaryRegularizerHook
from .schedule import TernaryScheduleHook
from .statistics import TernaryStatisticsHook

__all__ = [
    'TernaryRegularizerHook', 'TernaryScheduleHook', 'TernaryStatisticsHook'
]
