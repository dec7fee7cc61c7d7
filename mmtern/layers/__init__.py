"""Layers with ternary weights."""
from .attention import TernMultiheadAttention
from .conv1d import TernConv1d
from .modules import (TWINS, TernaryWeight, TernConv2d, TernLinear,
                      register_ternary)
from .quantizer import Quantizer, project_weight
from .settings import TernarySettings
from .transposed import TernConvTranspose2d

__all__ = [
    'Quantizer', 'TWINS', 'TernConv1d', 'TernConv2d', 'TernConvTranspose2d',
    'TernLinear', 'TernMultiheadAttention', 'TernarySettings', 'TernaryWeight',
    'project_weight', 'register_ternary'
]
