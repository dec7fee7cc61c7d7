"""Conversion of built modules."""
from importlib.util import find_spec

from ..layers import padded, standardized  # noqa: F401
from .convert import (convert, convert_from_config, survey,
                      ternary_from_config, ternary_layers)
from .freeze import freeze
from .report import ConversionReport, LayerRecord
from .scope import Scope
from .stem import image_readers

if find_spec('mmcv._ext'):  # absent from mmcv-lite
    from ..layers import deformable, switchable, trident  # noqa: F401

__all__ = [
    'ConversionReport', 'LayerRecord', 'Scope', 'convert',
    'convert_from_config', 'freeze', 'image_readers', 'survey',
    'ternary_from_config', 'ternary_layers'
]
