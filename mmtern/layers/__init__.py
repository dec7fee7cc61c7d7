"""Layers with ternary weights."""
from .joint import cosine_distances, join
from .modules import TernaryWeight, TernConv2d, TernLinear
from .settings import TernarySettings
from .ternarizer import Ternarizer

__all__ = [
    'TernConv2d', 'TernLinear', 'TernarySettings', 'TernaryWeight',
    'Ternarizer', 'cosine_distances', 'join'
]
