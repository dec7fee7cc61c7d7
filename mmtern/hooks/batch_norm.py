"""BatchNorm statistics of the weights that the run ends with."""
from typing import Dict, Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from ..checks import check_positive_count
from .surroundings import check_alone


@HOOKS.register_module()
class TernaryBatchNormHook(Hook):
    """Takes BatchNorm's statistics as the plain average over the last steps.

    A ternary value that flips moves a whole filter's output at once, and the
    usual moving average (momentum 0.1) follows the last ten batches only.
    Here the running statistics start anew ``iterations`` steps before the
    end, and each batch counts the same. Layers that the model keeps in eval
    (``norm_eval``, frozen stages) stay as they are.

    Source: statistics re-estimated for the final weights, after Nagel et al.,
    "Overcoming Oscillations in Quantization-Aware Training", ICML 2022;
    instead of further forward passes over the data it takes the run's own
    last steps, whose learning rate is small.

    Args:
        iterations (int): Steps to average over, at most the run's. Defaults
            to 50.
    """

    def __init__(self, iterations: int = 50) -> None:
        check_positive_count('iterations', iterations)
        self.iterations = iterations
        self._begin = 0
        self._momenta: Optional[Dict[_BatchNorm, Optional[float]]] = None

    def before_train(self, runner: Runner) -> None:
        check_alone(runner, self)
        if self.iterations > runner.max_iters:
            raise ValueError(
                f'iterations={self.iterations} steps cannot be averaged: the '
                f'run has {runner.max_iters}')
        self._begin = runner.max_iters - self.iterations
        self._momenta = None

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        if runner.iter < self._begin or self._momenta is not None:
            return
        # A run resumed within the last steps goes on with its counts.
        fresh = runner.iter == self._begin
        self._momenta = {}
        for layer in runner.model.modules():
            if (isinstance(layer, _BatchNorm) and layer.training
                    and layer.track_running_stats):
                if fresh:
                    layer.reset_running_stats()
                self._momenta[layer] = layer.momentum
                layer.momentum = None

    def after_train(self, runner: Runner) -> None:
        for layer, momentum in (self._momenta or {}).items():
            layer.momentum = momentum
