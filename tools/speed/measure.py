"""Timing of float and ternary steps."""
import time
from dataclasses import dataclass
from statistics import quantiles
from typing import Callable, Dict, List

import torch
from torch import Tensor

from mmtern import ternary_layers
from mmtern.engine.hooks.regularizer import cosine_distances
from mmtern.ops import fused
from .cases import Case, scaling_cases


def now(device: str) -> float:
    """Seconds, once the device has done its work."""
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Mode:
    """How a step computes.

    Attributes:
        phase: 'approach', 'ternary' or 'inference'.
        precision: 'float32', or the dtype of autocast; 'float16' scales the
            loss.
        channels_last: Memory format of images and weights.
        way: 'kernels' for what a device does by itself; 'codes' for the
            CPU's way on a GPU, too; 'stub' for a GPU's way on a CPU, see
            :mod:`speed.stub`.
    """
    phase: str
    precision: str = 'float32'
    channels_last: bool = False
    way: str = 'kernels'


class Stepper:
    """One model's training or inference steps, timed in parts."""

    def __init__(self, case: Case, ternary: bool, mode: Mode,
                 device: str) -> None:
        fused.DEVICES = dict(
            kernels=('cuda', ), stub=('cpu', ), codes=())[mode.way]
        # Kernels started so far that no operation of PyTorch stands for.
        self.started: Callable[[], int] = lambda: 0
        if mode.way == 'stub':
            from . import stub  # needs Triton
            stub.install()
            self.started = stub.launches
        self.device, self.phase = device, mode.phase
        self.autocast = torch.autocast(
            device,
            getattr(torch, mode.precision),
            enabled=mode.precision != 'float32')
        self.scaler = torch.amp.GradScaler(
            device, enabled=mode.precision == 'float16')
        self.model = case.build(ternary).to(device)
        self.data = case.data(device)
        if mode.channels_last:
            layout = torch.channels_last
            self.model.to(memory_format=layout)
            self.data['inputs'] = self.data['inputs'].to(memory_format=layout)
        self.layers = list(ternary_layers(self.model).values())
        self.model.train(self.phase != 'inference')
        for layer in self.layers:
            layer.quantizer.beta = 0.5 if self.phase == 'approach' else 1.0
            layer.quantizer.temperature = 2.0
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            trained, lr=1e-5, momentum=0.9, weight_decay=0.0)

    def forward(self) -> Tensor:
        """Return what the step differentiates, or in inference the
        outputs."""
        if self.phase == 'inference':
            with torch.no_grad(), self.autocast:
                # Without NMS: untrained twins detect differently, and more
                # boxes take longer.
                return self.model(**self.data, mode='tensor')
        pull = 0
        with self.autocast:
            # First, as TernaryRegularizerHook has it.
            if self.phase == 'approach' and self.layers:
                pull = 1e-3 * cosine_distances(self.layers)
            losses = self.model(**self.data, mode='loss')
        return self.scaler.scale(self.model.parse_losses(losses)[0] + pull)

    def step(self) -> Dict[str, float]:
        """Seconds of each part; on a GPU those in which its kernels are
        started, the last one until they are done."""
        start = now(self.device)
        loss = self.forward()
        if self.phase == 'inference':
            return dict(forward=now(self.device) - start)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        end = now(self.device)
        return dict(
            forward=forward - start,
            backward=backward - forward,
            optimizer=end - backward)


def compare_steps(case: Case, mode: Mode, pairs: int,
                  device: str) -> Dict[str, float]:
    """Float and ternary steps in turn.

    Returns:
        dict: Median milliseconds of each part and of the total, with their
        quartiles, and ``ratio``, median over pairs of ternary over float
        total, with its quartiles.
    """
    steppers = [Stepper(case, t, mode, device) for t in (False, True)]
    for stepper in steppers:
        stepper.step(), stepper.step()
    times: List[List[Dict[str, float]]] = [[], []]
    for pair in range(pairs):
        # Whoever comes second finds warmer or colder caches: take turns.
        for which in ((0, 1), (1, 0))[pair % 2]:
            times[which].append(steppers[which].step())
    totals = [[sum(t.values()) for t in run] for run in times]
    ratios = [b / a for a, b in zip(*totals)]
    line = _spread('ratio', ratios)
    for name, run, total in zip(('float', 'ternary'), times, totals):
        line.update(_spread(f'{name}_ms', [1e3 * t for t in total]))
        for part in run[0]:
            line.update(
                _spread(f'{name}_{part}_ms', [1e3 * t[part] for t in run]))
    return {key: round(value, 4) for key, value in line.items()}


def _spread(name: str, values: List[float]) -> Dict[str, float]:
    # A single value has no quartiles: they are itself.
    low, middle, high = quantiles(values * 2 if len(values) == 1 else values)
    return {name: middle, f'{name}_low': low, f'{name}_high': high}


def scaling(pairs: int, device: str) -> List[Dict[str, float]]:
    """Overhead of a ternary training step, in milliseconds, over the image's
    size and over the number of ternary weights."""
    points = []
    for axis, case in scaling_cases():
        times = compare_steps(case, Mode('ternary'), pairs, device)
        layers = ternary_layers(case.build(True)).values()
        points.append(
            dict(
                axis=axis,
                pixels=case.size[0] * case.size[1],
                weights=sum(x.latent.numel() for x in layers),
                overhead_ms=round(times['ternary_ms'] - times['float_ms'], 2),
                **times))
    return points
