"""BatchNorm statistics of the ternary weights that are validated and
saved."""
import random
from collections import deque
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any, Iterable, Iterator, List, Optional

import numpy as np
import torch
from mmengine.dist import all_reduce_params
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...checks import check_positive_count
from ...convert import ternary_layers
from ..distributed import unwrapped
from .runner_checks import check_alone, wrappers_of


@HOOKS.register_module()
class TernaryBatchNormHook(Hook):
    """Estimates BatchNorm's statistics anew at the end of each epoch, before
    validation and checkpoint.

    A weight that crosses a threshold moves its whole filter's output at once.
    BatchNorm's moving average lies between the outputs of many such weights
    and belongs to none of them, and in the approach phase to mixed weights.
    Here the last ``num_batches`` training batches pass once more, without
    gradient, through the ternary weights that are validated and saved (with
    an ``EMAHook``, those of the averaged weights), and each counts the same.
    Training itself does not see it: it normalizes by each batch's own
    statistics, and what else the passes changed, counters of losses and
    random numbers, is put back. Layers that the model keeps in eval
    (``norm_eval``, frozen stages), and those that no batch passes, stay as
    they are. With iterations instead of epochs, ends of the loop's
    ``val_interval`` and of the run take the place of epochs' ends; a
    checkpoint in between has the moving averages, and a run resumed less than
    ``num_batches`` before such an end estimates from fewer. In a distributed
    run the ranks' statistics are averaged.

    Source: re-estimation for the final weights, Nagel et al., "Overcoming
    Oscillations in Quantization-Aware Training", ICML 2022. They do it once,
    after training; we do it wherever the weights are looked at.

    Args:
        num_batches (int): Training batches to average over, copies of which
            stay in memory until then; at most those of an epoch are used.
            Defaults to 20.

    Raises:
        ValueError: For another value of an argument.
    """
    # After EMAHook has averaged the weights of this iteration.
    priority = 'BELOW_NORMAL'

    def __init__(self, num_batches: int = 20) -> None:
        check_positive_count('num_batches', num_batches)
        self.num_batches = num_batches
        self._batches: List[dict] = []

    def before_train(self, runner: Runner) -> None:
        check_alone(runner, self)
        self._batches = []

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        if _iterations_left(runner, batch_idx) <= self.num_batches:
            # Training changes data samples in place.
            self._batches.append(deepcopy(data_batch or {}))

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        if _iterations_left(runner, batch_idx) == 1:
            batches, self._batches = self._batches, []
            _estimate_statistics(runner, batches)


def _iterations_left(runner: Runner, batch_idx: int) -> int:
    """Return the number of iterations to the next estimation, the present one
    included."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        # Not by the runner's iteration: an epoch that was interrupted begins
        # again, and a resumed run may have another number of batches.
        return len(loop.dataloader) - batch_idx
    period = loop.val_interval
    return min(period - runner.iter % period, runner.max_iters - runner.iter)


def _estimate_statistics(runner: Runner, batches: List[dict]) -> None:
    model = unwrapped(runner.model)
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.training
        and module.track_running_stats
    }
    if not norms:
        return
    averaged = [
        hook.ema_model.module for hook in runner.hooks
        if isinstance(hook, EMAHook)
    ]
    before = {name: deepcopy(x.state_dict()) for name, x in norms.items()}
    devices = {p.device for p in model.parameters() if p.is_cuda}
    layers = list(ternary_layers(model).values())
    # The first of several optimizers: nothing is differentiated.
    precision = wrappers_of(runner.optim_wrapper)[0]
    # No momentum is a plain average. Ternary layers compute as in validation.
    with torch.no_grad(), _swapped(model, averaged), \
            _unchanged(set(model.modules()) - set(norms.values())), \
            _random_numbers_kept(devices), \
            _set_to(norms.values(), 'momentum', None), \
            _set_to(layers, 'training', False):
        for norm in norms.values():
            norm.reset_running_stats()
        for batch in batches:
            data = model.data_preprocessor(batch, True)
            with precision.optim_context(model):
                # Not mode='tensor', which not every detector has.
                model(**data, mode='loss')
    for name, norm in norms.items():
        if norm.num_batches_tracked == 0:
            norm.load_state_dict(before[name])
    for statistic in ('running_mean', 'running_var'):
        all_reduce_params((getattr(x, statistic) for x in norms.values()),
                          op='mean')
    for other in averaged:
        twins = dict(other.named_modules())
        for name, norm in norms.items():
            for own, buffer in zip(norm.buffers(), twins[name].buffers()):
                buffer.copy_(own)


@contextmanager
def _swapped(model: nn.Module, averaged: List[nn.Module]) -> Iterator[None]:
    """Within this context, the model has the weights that ``EMAHook`` gives it
    for validation."""
    pairs = [(own, other) for twin in averaged
             for own, other in zip(model.parameters(), twin.parameters())]

    def swap() -> None:
        for own, other in pairs:
            kept = own.detach().clone()
            own.data.copy_(other)
            other.data.copy_(kept)
        if pairs:
            for layer in ternary_layers(model).values():
                layer.quantizer.drop_cache()

    swap()
    try:
        yield
    finally:
        swap()


@contextmanager
def _unchanged(modules: Iterable[nn.Module]) -> Iterator[None]:
    """After this context, modules hold beside their parameters what they held
    before: buffers (Seesaw loss counts the samples of each class), lists (the
    history that sets Dynamic R-CNN's thresholds), numbers (the size that a
    multi-scale training has drawn). Tensors and containers are restored in
    place: others may hold them."""
    internal = vars(nn.Module()).keys()
    attributes = [(module, name, value, _content(value)) for module in modules
                  for name, value in vars(module).items()
                  if name not in internal]
    buffers = [(x, x.clone()) for module in modules
               for x in module.buffers(recurse=False)]
    try:
        yield
    finally:
        for module, name, value, content in attributes:
            vars(module)[name] = value
            _refill(value, content)
        for buffer, content in buffers:
            buffer.copy_(content)


def _content(value: Any) -> Any:
    """Return a copy of what can be changed in place, without what lies deeper
    in it."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return copy(value) if type(value) in (list, deque, dict, set) else None


def _refill(value: Any, content: Any) -> None:
    """Undo changes to ``value`` since :func:`_content` was asked."""
    if content is None:
        return
    if isinstance(value, Tensor):
        if not torch.equal(value, content):
            value.copy_(content)
    else:
        value.clear()
        (value.extend if isinstance(value, (list, deque)) else value.update)(
            content)


@contextmanager
def _random_numbers_kept(devices: Iterable[torch.device]) -> Iterator[None]:
    """After this context, samplers and augmentations of training draw what
    they would have drawn without it."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _set_to(modules: Iterable[nn.Module], name: str,
            value: Any) -> Iterator[None]:
    """Within this context, an attribute of the modules has this value."""
    before = [(module, getattr(module, name)) for module in modules]
    for module, _ in before:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, old in before:
            setattr(module, name, old)
