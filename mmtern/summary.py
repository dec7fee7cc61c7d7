"""How ternary a model is, in four numbers."""
from typing import Dict, Iterable

from torch import nn

from .measure import LayerMeasure, measure_model


def summarize(model: nn.Module) -> Dict[str, float]:
    """Measure the ternary weights of a model.

    Returns:
        dict: Empty for a float model, else ``ternary`` (share of the model's
        parameters held by ternary weights), ``zeros`` (share of zeros among
        them), ``cosine`` (mean over filters of cos(w, t)) and
        ``bits_per_weight`` (entropy of the layers' codes, the bound for
        coding weights independently).
    """
    measures = measure_model(model)
    if not measures:
        return {}
    ternary = sum(measure.weights for measure in measures.values())
    total = sum(p.numel() for p in model.parameters())
    return dict(ternary=ternary / total, **average(measures.values()))


def average(measures: Iterable[LayerMeasure]) -> Dict[str, float]:
    """``zeros``, ``cosine`` and ``bits_per_weight`` over layers, weighted by
    their weights or filters."""
    measures = list(measures)
    weights = sum(m.weights for m in measures)
    filters = sum(m.shape[0] for m in measures)
    return dict(
        zeros=sum(m.zeros * m.weights for m in measures) / weights,
        cosine=sum(m.cosine * m.shape[0] for m in measures) / filters,
        bits_per_weight=sum(m.bits * m.weights for m in measures) / weights)
