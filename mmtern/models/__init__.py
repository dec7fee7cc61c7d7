"""Wrappers for the model config."""
from .wrappers import TernBackbone, TernDetector, TernNeck, float_config

__all__ = ['TernBackbone', 'TernDetector', 'TernNeck', 'float_config']
