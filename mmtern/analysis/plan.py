"""The layers that a config makes ternary, found by building its model without
data, weights or training."""
from dataclasses import dataclass, replace

from mmengine.config import Config
from torch import nn

from ..convert import ConversionReport, Scope, convert, survey, ternary_layers
from ..engine.building import build_model

OUTSIDE = 'outside the wrapper'


@dataclass(frozen=True)
class TernaryPlan:
    """A built model and the decision about each of its layers.

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
    """Build the config's model and gather the decision of its wrappers on
    each layer, or that of ``TernDetector`` where nothing in it is ternary.

    Raises:
        ValueError: If the config has no model, or names a layer wrongly. As
            in :func:`mmtern.engine.building.build_model`, other errors pass.
    """
    model = build_model(cfg)
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
