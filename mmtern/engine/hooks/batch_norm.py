"""BatchNorm statistics of the ternary weights that are validated and
saved."""
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Iterator, List, Optional, Sequence

import torch
from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...checks import check_positive_count
from ...convert import ternary_layers
from ..distributed import unwrapped
from .runner_checks import check_alone


@HOOKS.register_module()
class TernaryBatchNormHook(Hook):
    """Estimates BatchNorm's statistics anew at the end of each epoch, before
    validation and checkpoint.

    A weight that crosses a threshold moves its whole filter's output at once.
    BatchNorm's moving average lies between the outputs of many such weights
    and belongs to none of them, and in the approach phase to mixed weights.
    Here the last ``num_batches`` training batches pass once more, without
    gradient, through the present ternary weights, and each counts the same.
    Training itself does not see it: it normalizes by each batch's own
    statistics. Layers that the model keeps in eval (``norm_eval``, frozen
    stages) stay as they are. With iterations instead of epochs, ends of the
    loop's ``val_interval`` and of the run take the place of epochs' ends. In
    a distributed run the ranks' statistics are averaged.

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

    def __init__(self, num_batches: int = 20) -> None:
        check_positive_count('num_batches', num_batches)
        self.num_batches = num_batches
        self._batches: List[dict] = []

    def before_train(self, runner: Runner) -> None:
        check_alone(runner, self)

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        if _iterations_left(runner) <= self.num_batches:
            # Training changes data samples in place.
            self._batches.append(deepcopy(data_batch or {}))

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        if _iterations_left(runner) == 1:
            batches, self._batches = self._batches, []
            _estimate_statistics(runner, batches)


def _iterations_left(runner: Runner) -> int:
    """Return the number of iterations to the next estimation, the present one
    included."""
    loop = runner.train_loop
    period = (
        len(loop.dataloader)
        if isinstance(loop, EpochBasedTrainLoop) else loop.val_interval)
    return min(period - runner.iter % period, runner.max_iters - runner.iter)


def _estimate_statistics(runner: Runner, batches: List[dict]) -> None:
    model = unwrapped(runner.model)
    norms = [
        module for module in model.modules() if isinstance(module, _BatchNorm)
        and module.training and module.track_running_stats
    ]
    if not norms:
        return
    devices = {p.device for p in model.parameters() if p.is_cuda}
    layers = list(ternary_layers(model).values())
    for norm in norms:
        norm.reset_running_stats()
    # The samplers and augmentations of training draw what they would have. No
    # momentum is a plain average. Ternary layers compute as in validation.
    with torch.random.fork_rng(devices), torch.no_grad(), \
            _set_to(norms, 'momentum', None), \
            _set_to(layers, 'training', False):
        for batch in batches:
            data = model.data_preprocessor(batch, True)
            with runner.optim_wrapper.optim_context(model):
                # Not mode='tensor', which not every detector has.
                model(**data, mode='loss')
    for name in ('running_mean', 'running_var'):
        all_reduce_params((getattr(norm, name) for norm in norms), op='mean')


@contextmanager
def _set_to(modules: Sequence[nn.Module], name: str,
            value: Any) -> Iterator[None]:
    """Within this context, an attribute of the modules has this value."""
    before = [getattr(module, name) for module in modules]
    for module in modules:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, old in zip(modules, before):
            setattr(module, name, old)
