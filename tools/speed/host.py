"""What ternary layers ask of the host: a chain of convolutions so thin that a
step is its calls alone, for which a GPU waits."""
import sys
import time
from collections import Counter
from statistics import quantiles
from typing import Any, Callable, Dict, List

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from mmtern import Scope, convert
from .measure import Mode, Stepper, now

LAYERS = 50
CHANNELS = 8
SIDE = 4


class Chain(BaseModel):
    """Convolutions one after the other, called as a detector is."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(*[
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
            for _ in range(LAYERS)
        ])

    def forward(self, inputs: Tensor, mode: str) -> Any:
        out = self.convs(inputs)
        return dict(loss=out.mean()) if mode == 'loss' else out


class ThinCase:
    """Stands in the place of a :class:`~speed.cases.Case`."""

    def build(self, ternary: bool) -> nn.Module:
        torch.manual_seed(0)
        model = Chain()
        if ternary:
            convert(model, Scope(include=['convs'], stem=True))
        return model

    def data(self, device: str) -> Dict[str, Tensor]:
        return dict(inputs=torch.randn(1, CHANNELS, SIDE, SIDE).to(device))


class _Operations(TorchDispatchMode):
    """Counts operations that write to memory: no views, no allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        is_view = any(x.alias_info and not x.alias_info.is_write
                      for x in func._schema.returns)
        name = func._schema.name
        if not is_view and 'empty' not in name and name != 'aten::detach':
            self.count += 1
        return func(*args, **(kwargs or {}))


def _calls(work: Callable[[], object]) -> int:
    """Return how many Python functions ``work`` calls."""
    seen: Counter = Counter()
    sys.setprofile(lambda frame, event, arg: seen.update([event]))
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen['call']


def _launches(work: Callable[[], object], stepper: Stepper) -> int:
    """Return how many kernels ``work`` starts on a GPU, or elsewhere how many
    operations write to memory, those of the stub included."""
    if stepper.device == 'cuda':
        with profile(activities=[ProfilerActivity.CUDA]) as trace:
            work()
            torch.cuda.synchronize()
        kinds = [event.device_type for event in trace.events()]
        return kinds.count(torch.autograd.DeviceType.CUDA)
    before = stepper.started()
    with _Operations() as operations:
        work()
    return operations.count + stepper.started() - before


def _counts(stepper: Stepper, parts: List[str]) -> Counter:
    """Count calls and launches of one step's forward and backward."""
    counted: Counter = Counter()
    for kind, count in (('calls', _calls),
                        ('launches', lambda work: _launches(work, stepper))):
        made: Dict[str, Tensor] = {}
        counted[f'forward_{kind}'] = count(
            lambda: made.update(loss=stepper.forward()))
        if 'backward' in parts:
            counted[f'backward_{kind}'] = count(made['loss'].backward)
            stepper.optimizer.zero_grad()
    return counted


def _timed(stepper: Stepper, parts: List[str]) -> List[float]:
    """Seconds that this thread, and no other program, was at work in each
    part of a step."""
    now(stepper.device)
    times = [time.thread_time()]
    loss = stepper.forward()
    times.append(time.thread_time())
    if 'backward' in parts:
        loss.backward()
        times.append(time.thread_time())
        stepper.optimizer.step()
        stepper.optimizer.zero_grad()
    return [end - start for start, end in zip(times, times[1:])]


def host_cost(mode: Mode, pairs: int, device: str) -> Dict[str, float]:
    """Measure what a ternary layer adds to a float layer's step on the host,
    float and ternary steps in turn.

    Returns:
        dict: ``float_*_us`` and ``added_*_us``, microseconds a layer, lower
        quartiles, as nothing but noise makes a step longer; ``*_calls``,
        Python functions that a ternary layer adds; ``*_launches``, see
        :func:`_launches`.
    """
    parts = ['forward'
             ] if mode.phase == 'inference' else ['forward', 'backward']
    steppers = [Stepper(ThinCase(), bool(t), mode, device) for t in (0, 1)]
    times: List[List[List[float]]] = [[], []]
    line = {}
    # Else a GPU's backward has a thread of its own.
    with torch.autograd.set_multithreading_enabled(False):
        for pair in range(-3, pairs):
            for which in ((0, 1), (1, 0))[pair % 2]:
                taken = _timed(steppers[which], parts)
                if pair >= 0:
                    times[which].append(taken)
        plain, ternary = ([quantiles(t)[0] / LAYERS for t in zip(*run)]
                          for run in times)
        for part, a, b in zip(parts, plain, ternary):
            line[f'float_{part}_us'] = round(1e6 * a, 1)
            line[f'added_{part}_us'] = round(1e6 * (b - a), 1)
        plain, ternary = (_counts(stepper, parts) for stepper in steppers)
    for name in ternary:
        line[name] = round((ternary[name] - plain[name]) / LAYERS, 1)
    return line
