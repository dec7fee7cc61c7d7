"""Conversion of the layers of a built module to ternary ones, in place."""
import re
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, Dict, Iterator, Optional, Set, Tuple

from mmcv.cnn import ConvModule
from torch import nn

from ..layers import TWINS, TernarySettings, TernaryWeight
from ..ops import allocate_zeros
from .report import ConversionReport, LayerRecord
from .scope import Scope
from .stem import image_readers


def ternary_layers(module: nn.Module) -> Dict[str, TernaryWeight]:
    """Return the ternary layers of a module by dotted name; a shared layer
    appears once."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, TernaryWeight)
    }


def survey(module: nn.Module,
           scope: Scope,
           reads_image: Optional[bool] = None) -> ConversionReport:
    """Return the report of :func:`convert` without converting anything.

    Raises:
        ValueError: If a pattern of ``scope`` has no effect.
    """
    report = ConversionReport(tuple(_records(module, scope, reads_image)))
    _check_patterns(module, scope, report)
    return report


def convert(module: nn.Module,
            scope: Optional[Scope] = None,
            settings: Optional[TernarySettings] = None,
            reads_image: Optional[bool] = None) -> ConversionReport:
    """Make layers of a built module ternary by changing their class.

    Parameters keep their identity, names and values; hooks, devices and
    initialization survive; modules used in several places stay shared, and
    layers that hold the same parameter share its ternary weight.

    Args:
        module (nn.Module): Changed in place.
        scope (Scope, optional): Which layers. Defaults to ``Scope()``.
        settings (TernarySettings, optional): How. Defaults to
            ``TernarySettings()``. Layers to which the scope's
            ``model_sparsity`` gives more zeros have those instead.
        reads_image (bool, optional): Whether ``module`` is given the image,
            as a backbone is and a neck is not. Defaults to None: see
            :func:`mmtern.convert.image_readers`.

    Returns:
        ConversionReport: Every layer with a weight, and why it was left.

    Raises:
        ValueError: If a pattern matches nothing, nothing is converted, or
            layers are ternary already.
    """
    scope, settings = scope or Scope(), settings or TernarySettings()
    already = ternary_layers(module)
    if already:
        raise ValueError(
            f'{type(module).__name__} holds ternary layers already '
            f'({next(iter(already))!r}, ...): wrap it once, either whole or '
            'its parts')
    report = survey(module, scope, reads_image)
    if not report.ternary:
        raise ValueError(
            f'no layer of {type(module).__name__} is left to make ternary: it '
            f'has {len(report.layers)} layers with weights, all of them kept '
            f'by include={scope.include}, exclude={tuple(scope.exclude)} or '
            'their type')
    layers = dict(module.named_modules())
    report = _with_zeros(report, layers, scope, settings)
    quantizers: Dict[int, Any] = {}
    for record in report.ternary:
        layer = layers[record.name]
        layer.__class__ = TWINS[type(layer)]
        key = id(layer.latent)
        layer.init_ternary(
            replace(settings, min_sparsity=record.min_sparsity),
            quantizers.get(key))
        quantizers[key] = layer.quantizer
    _leave_fused_forwards(module)
    return report


def convert_from_config(
        module: nn.Module,
        ternary: Optional[Dict[str, Any]],
        reads_image: Optional[bool] = None) -> ConversionReport:
    """Convert a module with the keys that :func:`ternary_from_config`
    accepts."""
    return convert(module, *ternary_from_config(ternary), reads_image)


def ternary_from_config(
        ternary: Optional[Dict[str, Any]]) -> Tuple[Scope, TernarySettings]:
    """Split the ``ternary=dict(...)`` of a config into :class:`Scope` and
    :class:`TernarySettings`.

    Raises:
        ValueError: For an unknown key, naming the nearest valid one.
    """
    scope_names = [field.name for field in fields(Scope)]
    names = scope_names + [field.name for field in fields(TernarySettings)]
    if not isinstance(ternary, (dict, type(None))):
        raise ValueError(
            f'ternary must be a dict or None, but got {ternary!r}')
    ternary = dict(ternary or {})
    for key in ternary:
        if key not in names:
            close = get_close_matches(key, names, n=1)
            hint = f'did you mean {close[0]!r}? ' if close else ''
            raise ValueError(f'unknown key {key!r} in ternary=dict(...): '
                             f'{hint}accepted are {", ".join(names)}')
    scope = {k: ternary.pop(k) for k in scope_names if k in ternary}
    return Scope(**scope), TernarySettings(**ternary)


def _with_zeros(report: ConversionReport, layers: Dict[str, nn.Module],
                scope: Scope, settings: TernarySettings) -> ConversionReport:
    """Return the report with each ternary layer's least share of zeros; layers
    that hold the same parameter count once."""
    sizes = {id(_latent(layers[x.name])): x.weights for x in report.ternary}
    shares = dict(
        zip(sizes, allocate_zeros(list(sizes.values()), scope.model_sparsity)))
    records = []
    for record in report.layers:
        if record.reason is None:
            share = shares[id(_latent(layers[record.name]))]
            record = replace(
                record, min_sparsity=max(share, settings.min_sparsity))
        records.append(record)
    return ConversionReport(tuple(records))


def _records(module: nn.Module, scope: Scope,
             reads_image: Optional[bool]) -> Iterator[LayerRecord]:
    readers = image_readers(module, reads_image)
    layers = dict(module.named_modules())
    for name, layer in layers.items():
        for key, parameter in layer.named_parameters(recurse=False):
            if parameter.dim() < 2:
                continue
            if parameter is _latent(layer):
                full_name = name
                reason = _reason_to_leave(name, layers, scope, readers)
            elif key == 'weight':
                full_name, reason = name, type(layer).__name__
            else:
                # Position embeddings, relative positions, ...
                full_name = f'{name}.{key}' if name else key
                reason = f'{type(layer).__name__}.{key}'
            yield LayerRecord(
                name=full_name,
                shape=tuple(parameter.shape),
                weights=parameter.numel(),
                reason=reason,
                trainable=parameter.requires_grad)


def _latent(layer: nn.Module) -> Optional[nn.Parameter]:
    """Return the parameter that is or would be the layer's latent weight."""
    twin = TWINS.get(type(layer))
    if isinstance(layer, TernaryWeight):
        twin = type(layer)
    return None if twin is None else getattr(layer, twin.latent_name)


def _reason_to_leave(name: str, layers: Dict[str, nn.Module], scope: Scope,
                     readers: Set[str]) -> Optional[str]:
    layer = layers[name]
    twin = TWINS.get(type(layer))
    if twin is not None and twin.read_by_parent:
        parent = name.rpartition('.')[0]
        if not name or _latent(layers[parent]) is None:
            reader = type(layers[parent]).__name__ if name else 'its parent'
            return f'read by {reader}'
        reason = _reason_to_leave(parent, layers, scope, readers)
        if reason is not None:
            return reason
    return scope.reason_to_leave(name, layer, name in readers)


def _leave_fused_forwards(module: nn.Module) -> None:
    """Make modules call their parts in inference, too, instead of what reads
    the latent weights: a kernel of PyTorch's encoder layers, and a convolution
    into which mmcv's ConvModule folds its norm."""
    for part in module.modules():
        if not (isinstance(part, (nn.TransformerEncoderLayer, ConvModule))
                and any(isinstance(x, TernaryWeight) for x in part.modules())):
            continue
        if isinstance(part, ConvModule):
            part.turn_on_efficient_conv_bn_eval(False)
        else:
            # Their name for an activation that the kernel does not know.
            part.activation_relu_or_gelu = 0


def _check_patterns(module: nn.Module, scope: Scope,
                    report: ConversionReport) -> None:
    for argument in ('include', 'exclude'):
        for pattern in getattr(scope, argument) or ():
            hits = [x for x in report.layers if re.search(pattern, x.name)]
            if not hits:
                names = ', '.join(repr(x.name) for x in report.layers[:3])
                raise ValueError(
                    f'{argument} holds the pattern {pattern!r}, which '
                    f'matches no layer of {type(module).__name__}; layers '
                    f'are named like {names}')
            if argument == 'include' and all(x.reason for x in hits):
                raise ValueError(
                    f'include holds the pattern {pattern!r}, but what it '
                    f'matches stays full precision, like {hits[0].name!r} '
                    f'({hits[0].reason})')
