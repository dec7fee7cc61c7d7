"""Layers with ternary weights."""
from .modules import (TWINS, TernaryWeight, TernConv2d, TernLinear,
                      register_ternary)
from .quantizer import Quantizer, project_weight
from .settings import TernarySettings

__all__ = [
    'Quantizer', 'TWINS', 'TernConv2d', 'TernLinear', 'TernarySettings',
    'TernaryWeight', 'project_weight', 'register_ternary'
]
