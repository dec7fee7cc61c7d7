"""Ternary-weight training for MMDetection."""
from .checkpoint_types import allow_mmengine_types
from .compat import check_versions
from .version import __version__

check_versions()
allow_mmengine_types()

from . import optim, wrappers  # noqa: F401
from .convert import Scope, convert, survey, ternary_layers
from .files import TernaryFileError, load_detector
from .hooks import (TernaryBatchNormHook, TernaryDistillationHook,
                    TernaryGuardHook, TernaryRegularizerHook,
                    TernaryScheduleHook, TernaryStatisticsHook)
from .hub import register_configs
from .layers import TernarySettings, TernConv2d, TernLinear

register_configs()

__all__ = [
    'Scope', 'TernConv2d', 'TernLinear', 'TernaryBatchNormHook',
    'TernaryDistillationHook', 'TernaryFileError', 'TernaryGuardHook',
    'TernaryRegularizerHook', 'TernaryScheduleHook', 'TernarySettings',
    'TernaryStatisticsHook', '__version__', 'convert', 'load_detector',
    'survey', 'ternary_layers'
]
