"""A ternary detector in float16 with a loss scaler whose first steps
overflow."""
from typing import Dict, List

import torch

from mmtern.layers import TernaryWeight, project_weight
from .cases import Case
from .measure import Mode, Stepper


def _stale(layers: List[TernaryWeight]) -> int:
    """Return how many layers do not hold the codes of their present
    weight."""
    count = 0
    for layer in layers:
        filters = layer.filters(layer.latent)
        _, codes = project_weight(layer.quantizer.settings, filters)
        count += not torch.equal(layer.codes, codes)
    return count


def endure(case: Case, iterations: int, device: str) -> Dict:
    """Train through an approach phase, the first half, and a ternary phase.

    Returns:
        dict: ``iterations``; ``skipped`` of them, as gradients overflowed;
        ``not_finite``, losses and, at the end, parameters; ``stale``, layers
        summed over skipped iterations and each tenth; ``first_loss`` and
        ``last_loss``, mean of five each.
    """
    stepper = Stepper(case, True, Mode('ternary', 'float16'), device)
    # PyTorch's default, 2**16, may not overflow. In three long steps down, as
    # few iterations are to show skipped steps and steps that are taken.
    scaler = torch.amp.GradScaler(
        device, init_scale=2.0**18, backoff_factor=1 / 8)
    stepper.scaler = scaler
    losses = []
    skipped = stale = 0
    for iteration in range(iterations):
        for layer in stepper.layers:
            layer.quantizer.beta = min(1.0, 2 * iteration / iterations)
        scale = scaler.get_scale()
        loss = stepper.forward()
        loss.backward()
        scaler.step(stepper.optimizer)
        scaler.update()
        stepper.optimizer.zero_grad()
        losses.append(float(loss.detach()) / scale)
        overflowed = scaler.get_scale() < scale
        skipped += overflowed
        if overflowed or iteration % 10 == 9:
            stale += _stale(stepper.layers)
    finite = [x.isfinite().all() for x in stepper.model.parameters()]
    finite.append(torch.tensor(losses).isfinite().all())
    return dict(
        iterations=iterations,
        skipped=skipped,
        not_finite=sum(not x for x in finite),
        stale=stale,
        first_loss=round(sum(losses[:5]) / 5, 4),
        last_loss=round(sum(losses[-5:]) / 5, 4))
