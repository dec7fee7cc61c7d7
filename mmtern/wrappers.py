"""Wrappers for the model config: build with mmdet, then make ternary.

Each builds what it is told to wrap, converts its layers in place and returns
that very object, so types, methods and state-dict keys stay mmdet's own. Only
``type`` moves: ``type='RetinaNet'`` becomes ``type='TernDetector',
wrapped='RetinaNet'`` and every other key of the model stays where inferencers
and tools look for it.
"""
from typing import Any, Dict, Optional

from mmdet.registry import MODELS
from mmengine.logging import print_log
from torch import nn

from .convert import convert_from_config


def _build_ternary(wrapped: str, ternary: Optional[Dict[str, Any]],
                   cfg: Dict[str, Any]) -> nn.Module:
    module = MODELS.build(dict(type=wrapped, **cfg))
    report = convert_from_config(module, ternary)
    print_log(f'Ternary {wrapped}: {report}', logger='current')
    return module


@MODELS.register_module()
def TernDetector(wrapped: str,
                 ternary: Optional[Dict[str, Any]] = None,
                 **cfg) -> nn.Module:
    """Build a detector and make its convs and RoI fully connected layers
    ternary, all but the stem and the prediction layers.

    Args:
        wrapped (str): The detector's own ``type``, e.g. 'RetinaNet'.
        ternary (dict, optional): Keys of :class:`mmtern.Scope` (which
            layers) and :class:`mmtern.TernarySettings` (how).
        **cfg: The detector's own arguments.

    Examples:
        >>> _base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
        >>> model = dict(type='TernDetector', wrapped='RetinaNet')
    """
    return _build_ternary(wrapped, ternary, cfg)


@MODELS.register_module()
def TernBackbone(wrapped: str,
                 ternary: Optional[Dict[str, Any]] = None,
                 **cfg) -> nn.Module:
    """Build a backbone and make it ternary; arguments as
    :func:`TernDetector`."""
    return _build_ternary(wrapped, ternary, cfg)


@MODELS.register_module()
def TernNeck(wrapped: str,
             ternary: Optional[Dict[str, Any]] = None,
             **cfg) -> nn.Module:
    """Build a neck and make it ternary; arguments as
    :func:`TernDetector`."""
    return _build_ternary(wrapped, ternary, cfg)
