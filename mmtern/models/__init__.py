"""Wrappers for the model config."""
from .wrappers import WRAPPERS, TernBackbone, TernDetector, TernNeck

__all__ = ['TernBackbone', 'TernDetector', 'TernNeck', 'WRAPPERS']
