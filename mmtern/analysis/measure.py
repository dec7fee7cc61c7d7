"""Measurements of ternary layers: zeros, cosine, entropy and the histogram of
the weights."""
from dataclasses import dataclass
from typing import Dict, Iterable, Optional, Tuple

import torch
from torch import Tensor, nn

from ..convert import ternary_layers
from ..layers import TernaryWeight, project_weight
from ..ops import entropy

# |w| / threshold: 1 is the border between zero and non-zero; few weights lie
# beyond 4, they are counted in the last bin.
BINS, HIGHEST = 80, 4.0


@dataclass(frozen=True)
class LayerMeasure:
    """The measurements of one ternary layer.

    Attributes:
        shape: That of the weight, as the float layer has it.
        zeros: Share of zero codes, in [0, 1].
        cosine: Mean over filters of cos(w, t).
        bits: Entropy of the codes in bits a weight, at most log2(3).
        histogram: Share of weights in each of ``BINS`` bins of
            |w| / threshold over [0, ``HIGHEST``], as a tuple.
        codes: Values in {-1, 0, +1}, shape (C_out, d), int8.
    """
    shape: Tuple[int, ...]
    zeros: float
    cosine: float
    bits: float
    histogram: Tuple[float, ...]
    codes: Tensor

    @property
    def weights(self) -> int:
        return self.codes.numel()


@torch.no_grad()
def measure_layer(layer: TernaryWeight, weight: Tensor) -> LayerMeasure:
    """Measure ``weight`` as if it were the latent weight of ``layer``."""
    filters = layer.filters(weight)
    projection, codes = project_weight(layer.quantizer.settings, filters)
    codes = codes.contiguous().flatten(1)
    ratio = projection.relative(filters.flatten(1).float())
    ratio.clamp_max_(HIGHEST * (1 - 1e-6))
    counts = torch.histc(ratio, BINS, 0.0, HIGHEST) / weight.numel()
    return LayerMeasure(
        shape=tuple(weight.shape),
        zeros=float((codes == 0).double().mean()),
        cosine=float(projection.cosine().mean()),
        bits=entropy(codes),
        histogram=tuple(counts.tolist()),
        codes=codes)


def measure_model(
        model: nn.Module,
        state: Optional[Dict[str, Tensor]] = None) -> Dict[str, LayerMeasure]:
    """Measure all ternary layers of ``model``.

    Args:
        model (nn.Module): Tells which layers, and how they ternarize.
        state (dict, optional): State dict of any mmdet checkpoint of it,
            float or ternary, to take the weights from. Layers that it lacks,
            or holds in another shape, are left out. Defaults to None, the
            model's own weights.
    """
    measures = {}
    for name, layer in ternary_layers(model).items():
        weight: Tensor = layer.latent
        if state is not None:
            held = state.get(f'{name}.{layer.latent_name}')
            if held is None or held.shape != layer.latent.shape:
                continue
            weight = held
        measures[name] = measure_layer(layer, weight)
    return measures


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
    """Return the means of ``zeros``, ``cosine`` and ``bits_per_weight`` over
    layers, weighted by their numbers of weights or filters."""
    measures = list(measures)
    weights = sum(m.weights for m in measures)
    filters = sum(len(m.codes) for m in measures)
    return dict(
        zeros=sum(m.zeros * m.weights for m in measures) / weights,
        cosine=sum(m.cosine * len(m.codes) for m in measures) / filters,
        bits_per_weight=sum(m.bits * m.weights for m in measures) / weights)
