"""The quantizer alone, without a detector around it."""
from statistics import median
from typing import Callable, Dict, List

import torch
from torch import nn

from mmtern.layers import Quantizer, TernarySettings
from .measure import now
from .rivals import literal_twn


def quantizer_cost(device: str) -> Dict[str, Dict[str, float]]:
    """Nanoseconds a weight of forward and backward, and the same as passes
    over memory (reads and writes of one float tensor, by ``torch.add``)."""
    shapes = [(512, 512, 3, 3), (256, 1024, 1, 1), (2048, 512, 1, 1)] * 3
    weights = [
        nn.Parameter(torch.randn(s, device=device) * 0.02) for s in shapes
    ]
    grads = [torch.randn_like(w) for w in weights]
    count = sum(w.numel() for w in weights)
    states = [Quantizer(TernarySettings()) for _ in weights]
    for state in states:
        state.temperature = 2.0

    def ternarize() -> List[torch.Tensor]:
        outs = [s(w, True, takes_any=True) for s, w in zip(states, weights)]
        return [getattr(out, 'sink', out) for out in outs]

    def add() -> List[torch.Tensor]:
        with torch.no_grad():
            return [torch.add(w, g) for w, g in zip(weights, grads)]

    def timed(function: Callable[[], list], backward: bool) -> float:
        times = []
        for _ in range(9):
            with torch.no_grad():
                for w in weights:
                    w.mul_(1.0001)  # as an optimizer step: no cached value
                    w.grad = None
            start = now(device)
            out = function()
            if backward:
                torch.autograd.backward(out, grads)
            times.append(now(device) - start)
        return 1e9 * median(times[3:]) / count

    one_pass = timed(add, False)
    functions = dict(
        mmtern=ternarize,
        literal_twn=lambda: [literal_twn(w) for w in weights])
    brevitas = _brevitas(weights)
    if brevitas is not None:
        functions['brevitas'] = brevitas
    costs = {name: timed(f, True) for name, f in functions.items()}
    return {
        name: dict(ns_per_weight=round(c, 3), passes=round(c / one_pass, 1))
        for name, c in costs.items()
    }


def _brevitas(weights: List[nn.Parameter]):
    try:
        from brevitas.nn import QuantConv2d
        from brevitas.quant import SignedTernaryWeightPerTensorConst as Quant
    except ImportError:
        return None
    convs = [
        QuantConv2d(w.shape[1], w.shape[0], w.shape[2], weight_quant=Quant)
        for w in weights
    ]
    for conv, weight in zip(convs, weights):
        conv.weight = weight
    return lambda: [conv.quant_weight().value for conv in convs]
