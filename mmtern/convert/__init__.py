"""Conversion of built modules."""
from .convert import (convert, convert_from_config, survey,
                      ternary_from_config, ternary_layers)
from .freeze import freeze
from .report import ConversionReport, LayerRecord
from .scope import Scope

__all__ = [
    'ConversionReport', 'LayerRecord', 'Scope', 'convert',
    'convert_from_config', 'freeze', 'survey', 'ternary_from_config',
    'ternary_layers'
]
