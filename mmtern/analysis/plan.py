"""What a config makes ternary, found by building its model, without data,
weights or training."""
import copy
import logging
from dataclasses import dataclass, replace
from traceback import walk_tb

from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from torch import nn

from ..convert import ConversionReport, Scope, convert, survey, ternary_layers

OUTSIDE = 'outside the wrapper'
REGISTRY = 'mmengine.registry'
PACKAGE = __name__.partition('.')[0]


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


class ConfigError(ValueError):
    """A config, or a file or class that it names, is wrong."""


def plan_config(cfg: Config) -> TernaryPlan:
    """Build the config's model and gather what its wrappers did to each
    layer; where nothing in it is ternary, what ``TernDetector`` would do.

    Raises:
        ConfigError: If the config has no model, or it cannot be built.
    """
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError('the config has no model=dict(...)')
    model = _build(cfg)
    ternary = ternary_layers(model)
    records = {r.name: r for r in survey(model, Scope()).layers}
    for name, record in records.items():
        # Ternary without a wrapper are layers of conv_cfg.
        reason = None if name in ternary else OUTSIDE
        records[name] = replace(record, reason=reason)
    reports = {
        path: part.conversion_report
        for path, part in model.named_modules()
        if hasattr(part, 'conversion_report')
    }
    if not ternary:
        reports[''] = convert(model)
    for path, report in reports.items():
        for record in report.layers:
            name = '.'.join(filter(None, (path, record.name)))
            records[name] = replace(record, name=name)
    report = ConversionReport(tuple(records.values()))
    return TernaryPlan(model, report, bool(ternary))


def _build(cfg: Config) -> nn.Module:
    """Build the model; whatever goes wrong in it is a mistake in the config,
    unless it goes wrong in our own code.

    Raises:
        ConfigError: In one sentence.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    try:
        # The wrappers log the decisions that the plan holds.
        logger.setLevel(logging.WARNING)
        imports = cfg.get('custom_imports')
        if imports:
            import_modules_from_strings(**imports)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        return MODELS.build(copy.deepcopy(ConfigDict(cfg.model)))
    except ValueError as error:
        # Our own sentences are of this type.
        raise ConfigError(str(error)) from error
    except Exception as error:
        if _is_ours(error):
            raise
        raise ConfigError(f'{type(error).__name__}: {error}') from error
    finally:
        logger.setLevel(level)


def _is_ours(error: BaseException) -> bool:
    """Whether what the registry built last, when it went wrong, was a wrapper
    and not what it wraps."""
    while error.__context__ is not None:
        error = error.__context__
    modules = [
        frame.f_globals.get('__name__', '')
        for frame, _ in walk_tb(error.__traceback__)
    ]
    built = [i for i, x in enumerate(modules) if x.startswith(REGISTRY)]
    last = modules[built[-1] + 1:built[-1] + 2] if built else []
    return any(x.split('.')[0] == PACKAGE for x in last)
