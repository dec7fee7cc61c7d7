"""What a config makes ternary, found by building its model, without data,
weights or training."""
from dataclasses import dataclass, replace
from typing import Any, Dict, Tuple

from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from torch import nn

from ..convert import (ConversionReport, Scope, convert, survey,
                       ternary_from_config, ternary_layers)
from ..models.wrappers import WRAPPERS

OUTSIDE = 'outside the wrapper'


@dataclass(frozen=True)
class TernaryPlan:
    """A built model and the decision on each of its layers.

    Attributes:
        model (nn.Module): The detector, converted, weights as initialized.
        report (ConversionReport): One record a layer with a weight.
        wrapped (bool): False for a float config, which is planned as if
            ``TernDetector`` wrapped it.
    """
    model: nn.Module
    report: ConversionReport
    wrapped: bool


def plan_config(cfg: Config) -> TernaryPlan:
    """Build the config's model float, note what its wrappers would do to
    each layer, and convert it.

    Raises:
        ValueError: If the config has no model, a ternary key is unknown or a
            pattern matches nothing.
    """
    if not isinstance(cfg.get('model'), dict):
        raise ValueError('the config has no model=dict(...)')
    imports = cfg.get('custom_imports')
    if imports:
        import_modules_from_strings(**imports)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model_cfg, wrappers = _unwrap(cfg.model)
    # Before the model is built: a typo need not wait for it.
    parsed = {
        path: ternary_from_config(keys)
        for path, keys in (wrappers or {
            '': {}
        }).items()
    }
    model = MODELS.build(ConfigDict(model_cfg))
    # Layers that the config itself builds ternary (conv_cfg).
    built = ternary_layers(model)
    records = {r.name: r for r in survey(model, Scope()).layers}
    for name, record in records.items():
        reason = None if name in built else OUTSIDE
        records[name] = replace(record, reason=reason)
    for path, (scope, settings) in parsed.items():
        if built and not wrappers:
            break
        part = model.get_submodule(path)
        for record in convert(part, scope, settings).layers:
            name = '.'.join(filter(None, (path, record.name)))
            records[name] = replace(record, name=name)
    report = ConversionReport(tuple(records.values()))
    return TernaryPlan(model, report, bool(wrappers or built))


def _unwrap(
    node: Dict[str, Any], path: Tuple[str, ...] = ()
) -> Tuple[dict, Dict[str, dict]]:
    """Model config without our wrappers, and their ``ternary`` by module
    path."""
    node, found = dict(node), {}
    if _type_name(node) in WRAPPERS:
        if 'wrapped' not in node:
            raise ValueError(f"{_type_name(node)} needs wrapped='...', the "
                             'type of what it wraps')
        node['type'] = node.pop('wrapped')
        found['.'.join(path)] = node.pop('ternary', None) or {}
    for key, value in node.items():
        if isinstance(value, dict):
            node[key], inner = _unwrap(value, path + (key, ))
            found.update(inner)
    return node, found


def _type_name(node: Dict[str, Any]) -> str:
    kind = node.get('type', '')
    if not isinstance(kind, str):
        kind = getattr(kind, '__name__', '')
    return kind.rpartition('.')[2]
