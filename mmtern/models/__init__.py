"""Wrappers for the model config."""
from .wrappers import (WRAPPERS, TernBackbone, TernDetector, TernNeck,
                       float_config)

__all__ = [
    'TernBackbone', 'TernDetector', 'TernNeck', 'WRAPPERS', 'float_config'
]
