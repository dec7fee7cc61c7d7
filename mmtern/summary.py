"""How ternary a model is, in four numbers."""
import math
from typing import Dict

import torch
from torch import nn

from .convert import ternary_layers


@torch.no_grad()
def summarize(model: nn.Module) -> Dict[str, float]:
    """Measure the ternary weights of a model.

    Returns:
        dict: Empty for a float model, else ``ternary`` (share of the model's
        parameters held by ternary weights), ``zeros`` (share of zeros among
        them), ``cosine`` (mean over filters of cos(w, t)) and
        ``bits_per_weight`` (entropy of the layers' codes, the bound for
        coding weights independently).
    """
    layers = ternary_layers(model)
    if not layers:
        return {}
    weights = zeros = filters = 0
    cosine = bits = 0.0
    for layer in layers.values():
        ternarizer, weight = layer.ternarizer, layer.weight
        codes = ternarizer.codes(weight)
        share = torch.stack([(codes == v).double().mean() for v in (-1, 0, 1)])
        nats = float(torch.special.entr(share).sum())
        bits += nats / math.log(2) * weight.numel()
        cosine += float(ternarizer.project(weight).cosine().sum())
        filters += len(weight)
        zeros += int((codes == 0).sum())
        weights += weight.numel()
    total = sum(p.numel() for p in model.parameters())
    return dict(
        ternary=weights / total,
        zeros=zeros / weights,
        cosine=cosine / filters,
        bits_per_weight=bits / weights)
