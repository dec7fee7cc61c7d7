"""What ternary layers ask of the host: a chain of convolutions so thin that a
step is the calls alone, which is what a GPU waits for."""
import sys
from collections import Counter
from typing import Callable, Dict

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from mmtern import Scope, convert
from .measure import Stepper, compare_steps

LAYERS = 50
CHANNELS = 8


class Chain(BaseModel):
    """Convolutions one after the other, called as a detector is."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(*[
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
            for _ in range(LAYERS)
        ])

    def forward(self, inputs: Tensor, mode: str):
        out = self.convs(inputs)
        return dict(loss=out.mean()) if mode == 'loss' else out


class ThinCase:
    """In the place of a :class:`~speed.cases.Case`."""

    def build(self, ternary: bool) -> nn.Module:
        torch.manual_seed(0)
        model = Chain()
        if ternary:
            convert(model, Scope(include=['convs'], stem=True))
        return model

    def data(self, device: str) -> dict:
        return dict(inputs=torch.randn(1, CHANNELS, 4, 4, device=device))


class _Operations(TorchDispatchMode):
    """Counts operations that write to memory: no views, no allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returned = func._schema.returns
        view = any(r.alias_info and not r.alias_info.is_write
                   for r in returned)
        name = func._schema.name
        if not view and 'empty' not in name and name != 'aten::detach':
            self.count += 1
        return func(*args, **(kwargs or {}))


def _calls(work: Callable[[], object]) -> int:
    """Python functions that ``work`` calls."""
    seen: Counter = Counter()
    sys.setprofile(lambda frame, event, arg: seen.update([event]))
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen['call']


def _launches(work: Callable[[], object], device: str) -> int:
    """Kernels that ``work`` starts on a GPU; elsewhere operations that write
    to memory."""
    if device == 'cuda':
        with profile(activities=[ProfilerActivity.CUDA]) as trace:
            work()
            torch.cuda.synchronize()
        return sum(e.device_type == torch.autograd.DeviceType.CUDA
                   for e in trace.events())
    with _Operations() as operations:
        work()
    return operations.count


def _counts(ternary: bool, phase: str, device: str) -> Counter:
    """Calls and launches of one step's forward and backward."""
    counted: Counter = Counter()
    for kind, count in (('calls', _calls),
                        ('launches', lambda work: _launches(work, device))):
        stepper = Stepper(ThinCase(), ternary, phase, device)
        stepper.step(), stepper.step()
        made: Dict[str, Tensor] = {}
        counted[f'forward_{kind}'] = count(
            lambda: made.update(loss=stepper.forward()))
        if phase != 'inference':
            with torch.autograd.set_multithreading_enabled(False):
                counted[f'backward_{kind}'] = count(made['loss'].backward)
    return counted


def host_cost(phase: str, pairs: int, device: str) -> Dict[str, float]:
    """What a ternary layer adds to a float layer's step.

    Returns:
        dict: ``forward_us`` and ``backward_us``, microseconds of the host;
        ``*_calls``, Python functions; ``*_launches``, see :func:`_launches`.
    """
    times = compare_steps(ThinCase(), phase, pairs, device)
    parts = ['forward'] if phase == 'inference' else ['forward', 'backward']
    line = {
        f'{part}_us': round(
            1e3 * (times[f'ternary_{part}_ms'] - times[f'float_{part}_ms']) /
            LAYERS, 1)
        for part in parts
    }
    plain, ternary = (_counts(t, phase, device) for t in (False, True))
    for name in ternary:
        line[name] = round((ternary[name] - plain[name]) / LAYERS, 1)
    return line
