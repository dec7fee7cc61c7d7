"""Statistics of the ternary weights during training, for the visualizers."""
from collections import defaultdict
from statistics import mean
from typing import Any, Dict, List, Optional

import torch
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from ...checks import check_positive_count
from ...layers import TernaryWeight
from ...layers.quantizer import Quantizer
from .attached import AttachedHook
from .regularizer import TernaryRegularizerHook
from .runner_checks import optimizers_of
from .schedule import TernaryScheduleHook, unwrapped_ternary_layers


@HOOKS.register_module()
class TernaryStatisticsHook(AttachedHook):
    """Records how ternary the weights are, per part of the model (backbone,
    neck, head).

    Scalars, under ``ternary/<part>_``: ``cosine``, mean over filters of
    cos(w, t); ``zeros``, share of zero weights; ``flips``, share of weights
    whose ternary value changed since the last measurement or checkpoint;
    ``distance``, mean over weights of ``| |w| / threshold - 1 |``;
    ``gradient``, norm of the latent weights' gradient as the optimizer gets
    it, clipped and re-scaled (absent where the iteration took no step).
    Beside them ``ternary/temperature`` and ``ternary/phase``, the share of
    the way to ternary that the layers have gone (the mean of their ``beta``);
    both of each part, too, where the schedule stages them (``begin`` is a
    dict); and ``ternary/lambda``, the strength of a
    :class:`TernaryRegularizerHook`. They go to every visualization backend
    (``vis_data/scalars.json``, TensorBoard, ...) and not to the lines of the
    log, which would no longer fit a terminal.

    Args:
        interval (int): Iterations between two measurements. Defaults to 50.
    """
    priority = 'NORMAL'

    def __init__(self, interval: int = 50) -> None:
        super().__init__()
        check_positive_count('interval', interval)
        self.interval = interval
        self._layers: Dict[str, TernaryWeight] = {}
        self._staged = False
        self._last_codes: Dict[str, Tensor] = {}
        self._gradients: Dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self._layers = unwrapped_ternary_layers(runner, type(self).__name__)
        self._staged = any(
            isinstance(hook, TernaryScheduleHook)
            and isinstance(hook.begin, dict) for hook in runner.hooks)
        self._remember()
        # The optimizer wrapper clears gradients in the call that steps.
        self.handles += [
            optimizer.register_step_pre_hook(
                lambda optimizer, *_: self._look_at_gradients(
                    runner, optimizer))
            for optimizer in optimizers_of(runner.optim_wrapper)
        ]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # A resumed run can only count flips from its checkpoint on; so does
        # this one, and their logs agree.
        self._remember()

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        step = runner.iter + 1
        scalars = {f'ternary/{k}': v for k, v in self.measure().items()}
        for hook in runner.hooks:
            if isinstance(hook, TernaryRegularizerHook):
                scalars['ternary/lambda'] = hook.strength(runner)
        # Straight to the visualizer: by way of the message hub each line of
        # the log would carry all of them, and repeat them between two
        # measurements.
        runner.visualizer.add_scalars(dict(scalars, iter=step), step=step)

    def _look_at_gradients(self, runner: Runner, optimizer: Optimizer) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        # A GradScaler leaves it to a fused optimizer to divide by its scale.
        scale = getattr(optimizer, 'grad_scale', None)
        for name, layer in self._layers.items():
            gradient = layer.latent.grad
            if gradient is not None:
                norm = gradient.detach().float().norm()
                self._gradients[name] = norm if scale is None else norm / scale

    @torch.no_grad()
    def measure(self) -> Dict[str, float]:
        """Return the scalars of this moment; the codes are stored for the next
        call, and the stored gradients are dropped."""
        before = self._last_codes
        self._remember()
        parts: Dict[str, Dict[str,
                              Any]] = defaultdict(lambda: defaultdict(float))
        for name, layer in self._layers.items():
            projection = layer.projection
            codes, last = self._last_codes[name], before[name]
            filters = layer.filters(layer.latent)
            relative = projection.relative(filters.flatten(1).float())
            sums = parts[name.split('.')[0]]
            sums['filters'] += len(codes)
            sums['weights'] += codes.numel()
            sums['cosine'] += projection.cosine().double().sum()
            sums['zeros'] += (codes == 0).sum()
            sums['flips'] += (codes != last).sum()
            sums['distance'] += relative.sub_(1).abs_().double().sum()
            if name in self._gradients:
                sums['gradient'] += self._gradients[name].double().square()
        self._gradients = {}
        scalars = {}
        for part, sums in parts.items():
            scalars[f'{part}_cosine'] = float(sums['cosine'] / sums['filters'])
            for what in ('zeros', 'flips', 'distance'):
                scalars[f'{part}_{what}'] = float(sums[what] / sums['weights'])
            if 'gradient' in sums:
                scalars[f'{part}_gradient'] = float(sums['gradient'])**0.5
        scalars.update(self._phases())
        return scalars

    def _phases(self) -> Dict[str, float]:
        """Return the means of temperature and phase over the layers, and over
        those of each part where the schedule stages them."""
        groups: Dict[str, List[Quantizer]] = defaultdict(list)
        for name, layer in self._layers.items():
            groups[''].append(layer.quantizer)
            if self._staged:
                groups[f'{name.split(".")[0]}_'].append(layer.quantizer)
        scalars = {}
        for part, states in groups.items():
            scalars[f'{part}temperature'] = mean(s.temperature for s in states)
            scalars[f'{part}phase'] = mean(s.beta for s in states)
        return scalars

    def _remember(self) -> None:
        self._last_codes = {
            name: layer.codes
            for name, layer in self._layers.items()
        }
