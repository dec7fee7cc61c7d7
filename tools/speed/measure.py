"""Timing and memory of float and ternary steps."""
import multiprocessing
import time
from statistics import median, quantiles
from typing import Callable, Dict, List

import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmtern import ternary_layers
from mmtern.layers import Ternarizer, TernarySettings
from mmtern.ops import cosine_distance
from .cases import CASES, Case
from .rivals import literal_twn


def _sync(device: str) -> float:
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


class Stepper:
    """One model's training or inference steps, timed in parts."""

    def __init__(self, case: Case, ternary: bool, phase: str,
                 device: str) -> None:
        self.model = case.build(ternary).to(device)
        self.device, self.phase = device, phase
        self.data = case.data(device)
        self.layers = list(ternary_layers(self.model).values())
        self.model.train(phase != 'inference')
        for layer in self.layers:
            layer.ternarizer.active = phase != 'approach'
            layer.ternarizer.temperature = 2.0
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            trained, lr=1e-5, momentum=0.9, weight_decay=0.0)

    def regularizer(self) -> torch.Tensor:
        return 1e-3 * sum(
            cosine_distance(x.weight, x.ternarizer.project(x.weight, True))
            for x in self.layers if x.weight.requires_grad)

    def step(self) -> Dict[str, float]:
        """Seconds of each part."""
        if self.phase == 'inference':
            start = _sync(self.device)
            with torch.no_grad():
                self.model(**self.data, mode='predict')
            return dict(forward=_sync(self.device) - start)
        start = _sync(self.device)
        # First, as TernaryRegularizerHook has it.
        pull = self.regularizer() if self.phase == 'approach' else 0
        losses = self.model(**self.data, mode='loss')
        loss = self.model.parse_losses(losses)[0] + pull
        forward = _sync(self.device)
        loss.backward()
        backward = _sync(self.device)
        self.optimizer.step()
        self.optimizer.zero_grad()
        end = _sync(self.device)
        return dict(
            forward=forward - start,
            backward=backward - forward,
            optimizer=end - backward)


def compare_steps(case: Case, phase: str, pairs: int,
                  device: str) -> Dict[str, float]:
    """Float and ternary steps in turn.

    Returns:
        dict: Median milliseconds of each part, and ``ratio``, median over
        pairs of ternary over float total, with its quartiles.
    """
    steppers = [Stepper(case, t, phase, device) for t in (False, True)]
    for stepper in steppers:
        stepper.step(), stepper.step()
    times: List[List[Dict[str, float]]] = [[], []]
    for pair in range(pairs):
        # Whoever comes second finds warmer or colder caches: take turns.
        for which in ((0, 1), (1, 0))[pair % 2]:
            times[which].append(steppers[which].step())
    totals = [[sum(t.values()) for t in run] for run in times]
    ratios = [b / a for a, b in zip(*totals)]
    low, middle, high = quantiles(ratios, n=4)
    line = dict(ratio=middle, ratio_low=low, ratio_high=high)
    for name, run, total in zip(('float', 'ternary'), times, totals):
        line[f'{name}_ms'] = 1e3 * median(total)
        for part in run[0]:
            line[f'{name}_{part}_ms'] = 1e3 * median(t[part] for t in run)
    return {key: round(value, 4) for key, value in line.items()}


def _reset_peak(device: str) -> None:
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    else:
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')


def _peak(device: str) -> int:
    if device == 'cuda':
        return torch.cuda.max_memory_allocated()
    with open('/proc/self/status') as file:
        line = next(x for x in file if x.startswith('VmHWM'))
    return 1024 * int(line.split()[1])


def _peak_of(case: Case, ternary: bool, phase: str, device: str, queue):
    init_default_scope('mmdet')
    stepper = Stepper(case, ternary, phase, device)
    stepper.step()
    _reset_peak(device)
    for _ in range(3):
        stepper.step()
    queue.put(_peak(device))


def peak_memory(case: Case, phase: str, device: str) -> float:
    """Ternary over float peak memory, each in a process of its own."""
    context = multiprocessing.get_context('spawn')
    peaks = []
    for ternary in (False, True):
        queue = context.Queue()
        process = context.Process(
            target=_peak_of, args=(case, ternary, phase, device, queue))
        process.start()
        peaks.append(queue.get())
        process.join()
    return round(peaks[1] / peaks[0], 4)


def quantizer_cost(device: str) -> Dict[str, Dict[str, float]]:
    """Nanoseconds a weight of forward and backward, and the same as passes
    over memory (reads and writes of one float tensor, by ``torch.add``)."""
    shapes = [(512, 512, 3, 3), (256, 1024, 1, 1), (2048, 512, 1, 1)] * 3
    weights = [
        nn.Parameter(torch.randn(s, device=device) * 0.02) for s in shapes
    ]
    grads = [torch.randn_like(w) for w in weights]
    count = sum(w.numel() for w in weights)
    states = [Ternarizer(TernarySettings()) for _ in weights]
    for state in states:
        state.temperature = 2.0

    def ternarize() -> List[torch.Tensor]:
        return [s(w, None, True) for s, w in zip(states, weights)]

    def add() -> List[torch.Tensor]:
        with torch.no_grad():
            return [torch.add(w, g) for w, g in zip(weights, grads)]

    def timed(function: Callable[[], list], backward: bool) -> float:
        times = []
        for _ in range(15):
            with torch.no_grad():
                for w in weights:
                    w.mul_(1.0001)  # as an optimizer step: no cached value
                    w.grad = None
            start = _sync(device)
            out = function()
            if backward:
                torch.autograd.backward(out, grads)
            times.append(_sync(device) - start)
        return 1e9 * median(times[3:]) / count

    one_pass = timed(add, False)
    functions = dict(
        mmtern=ternarize,
        literal_twn=lambda: [literal_twn(w) for w in weights])
    brevitas = _brevitas(weights)
    if brevitas is not None:
        functions['brevitas'] = brevitas
    return {
        name:
        dict(
            ns_per_weight=round(timed(function, True), 3),
            passes=round(timed(function, True) / one_pass, 1))
        for name, function in functions.items()
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


def scaling(pairs: int, device: str) -> List[Dict[str, float]]:
    """Overhead of a ternary training step, in milliseconds, over image
    sizes."""
    points = []
    config = CASES['retinanet-r50-320'].config
    for side in (128, 192, 256, 320, 448):
        case = Case(config, (side, side), 1)
        times = compare_steps(case, 'ternary', pairs, device)
        points.append(
            dict(
                pixels=side * side,
                overhead_ms=round(times['ternary_ms'] - times['float_ms'], 2),
                **times))
    return points
