"""Ternary-weight training for MMDetection.

Where mmengine, mmcv or mmdet is missing, the maths in :mod:`mmtern.ops` and
the layers' maths work all the same; whatever needs a framework says so when
it is asked for.
"""
from importlib.util import find_spec
from typing import Any

from .version import __version__

__all__ = [
    'Scope', 'TernConv2d', 'TernLinear', 'TernaryBatchNormHook',
    'TernaryDistillationHook', 'TernaryFileError', 'TernaryGuardHook',
    'TernaryRegularizerHook', 'TernaryScheduleHook', 'TernarySettings',
    'TernaryStatisticsHook', 'TernaryWeight', '__version__', 'convert',
    'freeze', 'load_detector', 'register_ternary', 'survey', 'ternary_layers'
]

if all(map(find_spec, ('mmengine', 'mmcv', 'mmdet'))):
    from .engine.frameworks import (allow_mmengine_types, check_versions,
                                    register_configs)
    check_versions()
    allow_mmengine_types()
    from . import models  # noqa: F401
    from .convert import Scope, convert, freeze, survey, ternary_layers
    from .engine import amp  # noqa: F401
    from .engine.hooks import (TernaryBatchNormHook, TernaryDistillationHook,
                               TernaryGuardHook, TernaryRegularizerHook,
                               TernaryScheduleHook, TernaryStatisticsHook)
    from .files import TernaryFileError, load_detector
    from .layers import (TernarySettings, TernaryWeight, TernConv2d,
                         TernLinear, register_ternary)
    register_configs()
else:

    def __getattr__(name: str) -> Any:
        if name in __all__:
            from .engine.frameworks import check_versions
            check_versions()
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
