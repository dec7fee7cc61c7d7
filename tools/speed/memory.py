"""Peak memory of a training step, ternary over float."""
import gc
import multiprocessing
from typing import Dict

import resident
import torch
from mmengine.registry import init_default_scope
from torch.profiler import ProfilerActivity, profile

from .cases import Case
from .measure import Mode, Stepper


def _tensors_cpu(case: Case, ternary: bool, mode: Mode) -> int:
    """Most bytes that tensors hold at a time. Two steps: the optimizer's
    state comes with the first."""
    with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        stepper = Stepper(case, ternary, mode, 'cpu')
        for _ in range(2):
            stepper.step()
    events = trace.profiler.kineto_results.events()
    memory = [x for x in events if x.name() == '[memory]']
    held = peak = 0
    for event in sorted(memory, key=lambda x: x.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _tensors_cuda(case: Case, ternary: bool, mode: Mode) -> int:
    """The same, of one step; the allocator counts them."""
    gc.collect()  # models hold themselves, and what others left would count
    before = torch.cuda.memory_allocated()
    stepper = Stepper(case, ternary, mode, 'cuda')
    stepper.step()
    torch.cuda.reset_peak_memory_stats()
    stepper.step()
    return torch.cuda.max_memory_allocated() - before


def _resident_cpu(case: Case, ternary: bool, mode: Mode) -> int:
    stepper = Stepper(case, ternary, mode, 'cpu')
    stepper.step()
    resident.forget_peak()
    for _ in range(3):
        stepper.step()
    return resident.peak()


def _measure(measure, case: Case, ternary: bool, mode: Mode, queue) -> None:
    init_default_scope('mmdet')
    queue.put(measure(case, ternary, mode))


def _ratio(measure, case: Case, mode: Mode) -> float:
    context = multiprocessing.get_context('spawn')
    peaks = []
    for ternary in (False, True):
        queue = context.Queue()
        process = context.Process(
            target=_measure, args=(measure, case, ternary, mode, queue))
        process.start()
        peaks.append(queue.get())
        process.join()
    return round(peaks[1] / peaks[0], 4)


def peak_memory(case: Case, mode: Mode, device: str) -> Dict[str, float]:
    """Ratios; on a CPU each measurement is in a process of its own.

    Returns:
        dict: ``memory_ratio`` of what tensors hold, and on a CPU
        ``resident_ratio`` of the process. The latter moves by some percent
        from run to run with the holes that freed blocks leave in the heap.
    """
    if device == 'cuda':
        plain, ternary = (
            _tensors_cuda(case, kind, mode) for kind in (False, True))
        return dict(memory_ratio=round(ternary / plain, 4))
    return dict(
        memory_ratio=_ratio(_tensors_cpu, case, mode),
        resident_ratio=_ratio(_resident_cpu, case, mode))
