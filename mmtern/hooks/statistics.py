"""What happens to the weights, for the log and the visualizers."""
from collections import defaultdict
from typing import Dict, Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..layers import TernaryWeight
from .schedule import unwrapped_ternary_layers


@HOOKS.register_module()
class TernaryStatisticsHook(Hook):
    """Logs how ternary the weights are, per part of the model (backbone,
    neck, head).

    Scalars, under ``train/ternary/<part>_``: ``cosine``, mean over filters of
    cos(w, t); ``zeros``, share of zero weights; ``flips``, share of weights
    whose ternary value changed since the last log or checkpoint. Beside them
    ``train/ternary/temperature`` and ``train/ternary/phase``, the share of
    layers that run ternary. They reach the runner's log and every
    visualization backend through the message hub.

    Args:
        interval (int): Iterations between two measurements; use the
            ``LoggerHook``'s. Defaults to 50.
    """
    # Before LoggerHook (BELOW_NORMAL) reads the message hub.
    priority = 'NORMAL'

    def __init__(self, interval: int = 50) -> None:
        if not (isinstance(interval, int) and interval >= 1):
            raise ValueError('interval must be a whole number of iterations '
                             f'>= 1, but got {interval!r}')
        self.interval = interval
        self._layers: Dict[str, TernaryWeight] = {}
        self._last_codes: Dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        self._layers = unwrapped_ternary_layers(runner, type(self).__name__)
        self._remember(training=False)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # A resumed run can only count flips from its checkpoint on; so does
        # this one, and their logs agree. By the exact search: rank 0 alone is
        # here, and must not move its warm start away from the others'.
        self._remember(training=False)

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        for key, value in self.measure().items():
            runner.message_hub.update_scalar(f'train/ternary/{key}', value)

    @torch.no_grad()
    def measure(self) -> Dict[str, float]:
        """Scalars of the moment; remembers the codes for the next call."""
        before = self._last_codes
        self._remember(training=True)
        sums = defaultdict(lambda: torch.zeros(5, dtype=torch.float64))
        for name, layer in self._layers.items():
            projection = layer.ternarizer.project(layer.weight, True)
            codes, last = self._last_codes[name], before[name]
            sums[name.split('.')[0]] += torch.stack([
                projection.cosine().sum().double(),
                torch.tensor(len(codes)).double().to(codes.device),
                (codes == 0).sum().double(),
                (codes != last).sum().double(),
                torch.tensor(codes.numel()).double().to(codes.device),
            ]).cpu()
        scalars = {}
        for part, (cosine, rows, zeros, flips, weights) in sums.items():
            scalars[f'{part}_cosine'] = float(cosine / rows)
            scalars[f'{part}_zeros'] = float(zeros / weights)
            scalars[f'{part}_flips'] = float(flips / weights)
        states = [layer.ternarizer for layer in self._layers.values()]
        scalars['temperature'] = states[0].temperature
        scalars['phase'] = sum(s.active for s in states) / len(states)
        return scalars

    def _remember(self, training: bool) -> None:
        self._last_codes = {
            name: layer.ternarizer.codes(layer.weight, training).to(torch.int8)
            for name, layer in self._layers.items()
        }
