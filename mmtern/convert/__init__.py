"""Conversion of built modules."""
from .convert import (convert, convert_from_config, survey,
                      ternary_from_config, ternary_layers)
from .report import ConversionReport, LayerRecord
from .scope import Scope

__all__ = [
    'ConversionReport', 'LayerRecord', 'Scope', 'convert',
    'convert_from_config', 'survey', 'ternary_from_config', 'ternary_layers'
]
