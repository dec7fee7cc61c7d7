"""The two phases of training: approach in full precision, then ternary."""
from typing import Dict, Optional, Sequence, Union

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checks import check_flag, is_count, is_number
from ..convert import ternary_layers
from ..layers import TernaryWeight
from .surroundings import check_alone, refuse_sharded, warn_of_averaging
from .updates import UpdateRescaling


def unwrapped_ternary_layers(runner: Runner,
                             hook: str) -> Dict[str, TernaryWeight]:
    """The ternary layers of the runner's model, DDP and the like taken off.

    Raises:
        ValueError: If there are none, or the model is sharded.
    """
    model = runner.model
    refuse_sharded(model)
    if is_model_wrapper(model):
        model = model.module
    layers = ternary_layers(model)
    if not layers:
        raise ValueError(
            f'{hook} needs a model with ternary layers, but '
            f"{type(model).__name__} has none: set model type='TernDetector' "
            'or wrap its backbone or neck')
    return layers


def train_progress(runner: Runner, begin: int) -> float:
    """Share of the iterations from ``begin`` to the run's end that is done,
    in [0, 1]."""
    span = max(runner.max_iters - 1 - begin, 1)
    return min(max((runner.iter - begin) / span, 0.0), 1.0)


def to_iterations(runner: Runner, count: int, by_epoch: bool) -> int:
    """Epochs or iterations as iterations of this run."""
    if isinstance(count, float) and 0 < count < 1:
        return round(count * runner.max_iters)
    return count * len(runner.train_dataloader) if by_epoch else count


@HOOKS.register_module()
class TernaryScheduleHook(Hook):
    """Switches layers from the approach phase to the ternary phase and
    anneals the gradient's temperature.

    In iterations [0, begin) the forward is full precision (the regularizer
    gathers weights meanwhile); from ``begin`` it is ternary, and the
    temperature grows linearly to the run's end. Validation always runs
    ternary: it measures what will be deployed. All of it is a function of the
    runner's iteration, so a resumed run equals an uninterrupted one.

    Args:
        begin (int or dict): First epoch (or iteration) of the ternary phase.
            A dict stages it by name prefix, e.g. ``dict(backbone=0, neck=2,
            bbox_head=4)``; layers under no prefix are ternary from 0.
            Defaults to 0, no approach phase.
        temperature (Sequence[float]): ``T`` at ``begin`` and at the end of
            training; 0 is the plain straight-through estimator.
        by_epoch (bool): Whether ``begin`` counts epochs. Defaults to True.
    """
    priority = 'NORMAL'

    def __init__(self,
                 begin: Union[int, float, Dict[str, int]] = 0.5,
                 approach: str = 'proximal',
                 temperature: Sequence[float] = (0.0, 4.0),
                 by_epoch: bool = True,
                 power: float = 1.0) -> None:
        starts = begin.values() if isinstance(begin, dict) else [begin]
        self.approach, self.power = approach, power
        for start in starts:
            if not is_count(start) and not (isinstance(start, float)
                                            and 0 < start < 1):
                raise ValueError(
                    f'begin must be a whole number >= 0, or a dict of them, '
                    f'but got {begin!r}')
        if not (isinstance(temperature,
                           (list, tuple)) and len(temperature) == 2
                and all(is_number(t) and t >= 0 for t in temperature)):
            raise ValueError(
                'temperature must hold two numbers >= 0, at the begin and '
                f'the end of the ternary phase, but got {temperature!r}')
        check_flag('by_epoch', by_epoch)
        self.begin = begin
        self.temperature = tuple(temperature)
        self.by_epoch = by_epoch
        self._layers: Dict[str, TernaryWeight] = {}
        self._begins: Dict[str, int] = {}
        self._last_checkpoint: Optional[str] = None
        self._rescaling = UpdateRescaling()

    def before_train(self, runner: Runner) -> None:
        check_alone(runner, self)
        self._layers = unwrapped_ternary_layers(runner, type(self).__name__)
        warn_of_averaging(runner)
        self._begins = {
            name: to_iterations(runner, self._begin_of(name), self.by_epoch)
            for name in self._layers
        }
        if isinstance(self.begin, dict):
            for prefix in self.begin:
                if not any(_is_under(name, prefix) for name in self._layers):
                    raise ValueError(
                        f'begin names {prefix!r}, but no ternary layer lies '
                        'under it; their names begin with '
                        f'{sorted({n.split(".")[0] for n in self._layers})}')
        self._rescaling.start(runner.optim_wrapper, self._layers.values())
        latest = max(self._begins.values())
        if latest >= runner.max_iters:
            raise ValueError(
                f'begin={self.begin!r} is iteration {latest}, but the run '
                f'ends at {runner.max_iters}: no ternary phase is left')

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        self._forget_at_checkpoint(runner)
        low, high = self.temperature
        for name, layer in self._layers.items():
            begin = self._begins[name]
            ternarizer = layer.ternarizer
            ternarizer.active = runner.iter >= begin
            ternarizer.share = 1.0
            if runner.iter < begin and self.approach == 'proximal':
                ternarizer.active = runner.iter > 0
                ternarizer.share = (runner.iter / begin)**self.power
            progress = train_progress(runner, begin)
            ternarizer.temperature = low + (high - low) * progress
            if runner.iter == begin and layer.weight_scale is not None:
                layer.reset_weight_scale()

    def after_train(self, runner: Runner) -> None:
        self._rescaling.stop()

    def before_val(self, runner: Runner) -> None:
        for layer in self._layers.values():
            layer.ternarizer.active = True

    def _forget_at_checkpoint(self, runner: Runner) -> None:
        # A resumed run begins without a warm start; so does this one, and
        # both go on alike. ``before_save_checkpoint`` would do so on rank 0
        # only, and the ranks' ternary weights would part.
        last = runner.message_hub.get_info('last_ckpt')
        if last != self._last_checkpoint:
            self._last_checkpoint = last
            for layer in self._layers.values():
                layer.ternarizer.reset()

    def _begin_of(self, name: str) -> int:
        if not isinstance(self.begin, dict):
            return self.begin
        prefixes = [p for p in self.begin if _is_under(name, p)]
        return self.begin[max(prefixes, key=len)] if prefixes else 0


def _is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f'{prefix}.')
