"""Wrappers for the model config, which build with mmdet and then convert.

Each builds what it is told to wrap, converts its layers in place and returns
that very object, so types, methods and state-dict keys stay mmdet's own. Only
``type`` moves: ``type='RetinaNet'`` becomes ``type='TernDetector',
wrapped='RetinaNet'`` and every other key of the model stays where inferencers
and tools look for it.
"""
import copy
from difflib import get_close_matches
from typing import Any, Dict, Optional, Union

from mmdet.registry import MODELS
from mmengine.logging import print_log
from torch import nn

from ..convert import convert_from_config, ternary_from_config
from ..files import refuse_other_files
from ..files.provenance import LAYERS, WRAPPERS
from ..files.type_names import dicts_in, type_name


def _build_ternary(wrapped: Union[str, type,
                                  None], ternary: Optional[Dict[str, Any]],
                   cfg: Dict[str, Any], reads_image: bool) -> nn.Module:
    """Build ``cfg`` as ``wrapped``, make it ternary, and leave the report on
    it as ``conversion_report``, where :func:`mmtern.analysis.plan.plan_config`
    finds it."""
    if wrapped is None:
        raise ValueError('wrapped must name what to make ternary, the type of '
                         "the float config, e.g. wrapped='RetinaNet', but it "
                         'is not set')
    name = type_name(wrapped)
    if name in WRAPPERS:
        raise ValueError('wrapped must be the type of a float model, but got '
                         f'{name!r}: this config is ternary already')
    # Before the module is built: a typo need not wait for it.
    ternary_from_config(ternary)
    if isinstance(wrapped, str) and MODELS.get(wrapped) is None:
        close = get_close_matches(wrapped, MODELS.module_dict, n=1)
        hint = f'; did you mean {close[0]!r}?' if close else ''
        raise ValueError(f'wrapped={wrapped!r} names no registered model'
                         f'{hint}')
    # DETRs write into their config, which could not build a second one then,
    # nor be saved.
    module = MODELS.build(dict(copy.deepcopy(cfg), type=wrapped))
    report = convert_from_config(module, ternary, reads_image)
    module.conversion_report = report
    refuse_other_files(module)
    print_log(f'Ternary {name}: {report}', logger='current')
    return module


def float_config(model: Dict[str, Any]) -> Dict[str, Any]:
    """Return a copy of a model's config without its ternary wrappers and
    layers, at any depth: the float twin's.

    Args:
        model (dict): As in ``cfg.model``; it stays as it is.
    """
    twin = copy.deepcopy(model)
    for node in dicts_in(twin):
        name = type_name(node.get('type'))
        if name in WRAPPERS:
            node['type'] = node.pop('wrapped')
            node.pop('ternary', None)
        elif name in LAYERS:
            node['type'] = LAYERS[name]
            node.pop('ternary', None)
    return twin


@MODELS.register_module()
def TernDetector(wrapped: Union[str, type, None] = None,
                 ternary: Optional[Dict[str, Any]] = None,
                 **cfg) -> nn.Module:
    """Build a detector and make ternary all layers of a type that has a
    ternary twin, but for the stem and the prediction layers.

    Args:
        wrapped (str or type): The detector's own ``type``, e.g.
            'RetinaNet'; must be given.
        ternary (dict, optional): Keys of :class:`mmtern.Scope` (which
            layers) and :class:`mmtern.TernarySettings` (how).
        **cfg: The detector's own arguments.

    Raises:
        ValueError: If ``wrapped`` is missing or ternary itself, or for what
            :func:`mmtern.convert` refuses.

    Examples:
        >>> _base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
        >>> model = dict(type='TernDetector', wrapped='RetinaNet')
    """
    return _build_ternary(wrapped, ternary, cfg, reads_image=True)


@MODELS.register_module()
def TernBackbone(wrapped: Union[str, type, None] = None,
                 ternary: Optional[Dict[str, Any]] = None,
                 **cfg) -> nn.Module:
    """Build a backbone and make it ternary; arguments as
    :func:`TernDetector`."""
    return _build_ternary(wrapped, ternary, cfg, reads_image=True)


@MODELS.register_module()
def TernNeck(wrapped: Union[str, type, None] = None,
             ternary: Optional[Dict[str, Any]] = None,
             **cfg) -> nn.Module:
    """Build a neck and make it ternary; arguments as
    :func:`TernDetector`."""
    return _build_ternary(wrapped, ternary, cfg, reads_image=False)
