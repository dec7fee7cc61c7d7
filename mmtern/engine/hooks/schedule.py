"""The schedule of training: an approach phase, then the ternary phase."""
from typing import Dict, Optional, Sequence, Union

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...checks import check_choice, check_flag, is_count, is_number
from ...convert import ternary_layers
from ...files import provenance
from ...layers import TernaryWeight
from ..distributed import unwrapped
from .runner_checks import check_alone, refuse_sharded, warn_of_settings

APPROACHES = ('proximal', 'float')


def unwrapped_ternary_layers(runner: Runner,
                             hook: str) -> Dict[str, TernaryWeight]:
    """Return the ternary layers of the runner's model, without the prefix of
    wrappers such as DDP.

    Raises:
        ValueError: If there are none, or the model is sharded.
    """
    refuse_sharded(runner.model)
    model = unwrapped(runner.model)
    layers = ternary_layers(model)
    if not layers:
        raise ValueError(
            f'{hook} needs a model with ternary layers, but '
            f"{type(model).__name__} has none: set model type='TernDetector' "
            'or wrap its backbone or neck')
    return layers


def train_progress(runner: Runner, begin: int) -> float:
    """Return the share of the iterations from ``begin`` to the run's end that
    is done, in [0, 1]."""
    span = max(runner.max_iters - 1 - begin, 1)
    return min(max((runner.iter - begin) / span, 0.0), 1.0)


def is_moment(value: object) -> bool:
    """Return whether ``value`` is a whole number >= 0, of epochs or
    iterations, or a share of the run, a float between 0 and 1."""
    return is_count(value) or (isinstance(value, float) and 0.0 < value < 1.0)


def to_iterations(runner: Runner, moment: Union[int, float],
                  by_epoch: bool) -> int:
    """Return a number of epochs or iterations, or a share of the run, as
    iterations of this run."""
    if isinstance(moment, float):
        return round(moment * runner.max_iters)
    return moment * len(runner.train_dataloader) if by_epoch else moment


@HOOKS.register_module()
class TernaryScheduleHook(Hook):
    """Leads layers through the approach phase to the ternary phase and
    anneals the gradient's temperature.

    In iterations [0, begin) layers approach their ternary weights. With
    ``approach='proximal'`` they compute with ``w + beta (a t - w)``, ``beta =
    iteration / begin``: the proximal map of a pull towards the nearest
    ternary weight whose strength grows to infinity (BinaryRelax, arXiv
    1801.06313; ProxQuant, arXiv 1810.00861), in the place of arXiv
    2212.12649's regularization before quantizing. The gradient goes straight
    through, so the latent weights stay free. From ``begin`` on the forward is
    ternary, and the temperature grows linearly to the run's end. Validation
    always runs ternary: it measures what will be deployed. All of it is a
    function of the runner's iteration, so a resumed run equals an
    uninterrupted one.

    Args:
        begin (int, float or dict): First epoch (or iteration) of the ternary
            phase, or, between 0 and 1, its place as a share of the run. A
            dict stages it by name prefix, e.g. ``dict(backbone=0.3, neck=0.4,
            bbox_head=0.5)``; layers under no prefix are ternary from 0. 0 is
            no approach phase. Defaults to 0.5.
        approach (str): 'proximal', or 'float' for a forward with the latent
            weights. Defaults to 'proximal'.
        temperature (Sequence[float]): ``T`` at ``begin`` and at the end of
            training; 0 is the plain straight-through estimator.
        by_epoch (bool): Whether a whole ``begin`` counts epochs. Defaults to
            True.

    Raises:
        ValueError: For another value of an argument.
    """
    priority = 'NORMAL'

    def __init__(self,
                 begin: Union[int, float, Dict[str, Union[int, float]]] = 0.5,
                 approach: str = 'proximal',
                 temperature: Sequence[float] = (0.0, 4.0),
                 by_epoch: bool = True) -> None:
        starts = begin.values() if isinstance(begin, dict) else [begin]
        if not all(map(is_moment, starts)):
            raise ValueError(
                'begin must be a whole number >= 0, a share of the run '
                f'between 0.0 and 1.0, or a dict of them, but got {begin!r}')
        check_choice('approach', approach, APPROACHES)
        if not (isinstance(temperature,
                           (list, tuple)) and len(temperature) == 2
                and all(is_number(t) and t >= 0 for t in temperature)):
            raise ValueError(
                'temperature must hold two numbers >= 0, at the begin and '
                f'the end of the ternary phase, but got {temperature!r}')
        check_flag('by_epoch', by_epoch)
        self.begin = begin
        self.approach = approach
        self.temperature = tuple(temperature)
        self.by_epoch = by_epoch
        self._layers: Dict[str, TernaryWeight] = {}
        self._begins: Dict[str, int] = {}
        self._loaded_float = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        trained = provenance.of_checkpoint(checkpoint.get('meta') or {})
        self._loaded_float = trained is not None and not trained.ternary

    def before_train(self, runner: Runner) -> None:
        check_alone(runner, self)
        self._layers = unwrapped_ternary_layers(runner, type(self).__name__)
        self._refuse_to_resume_float(runner)
        warn_of_settings(runner, self._layers)
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
        latest = max(self._begins.values())
        if latest >= runner.max_iters:
            raise ValueError(
                f'begin={self.begin!r} is iteration {latest}, but the run '
                f'ends at {runner.max_iters}: no ternary phase is left')
        for layer in self._layers.values():
            if layer.weight_scale is not None and not layer.scale_is_loaded:
                # It is that of weights before their initialization.
                layer.reset_weight_scale()

    def _refuse_to_resume_float(self, runner: Runner) -> None:
        """Raise where a run that began in float would go on as a ternary one,
        its approach phase over or cut short: ``resume=True`` takes the float
        checkpoint that ``load_from`` names."""
        own = provenance.of_config(runner.cfg or {})
        # A runner may train on, long after it has loaded a checkpoint.
        loaded_float, self._loaded_float = self._loaded_float, False
        if (runner.iter > 0 and loaded_float and own is not None
                and own.ternary):
            raise ValueError(
                f'this ternary run would resume the float run of '
                f'{runner.cfg.get("load_from")!r} at iteration {runner.iter}: '
                'write resume=False to begin with its weights; resume=True '
                "with load_from=None, or tools/train.py's --resume, goes on "
                'with what lies in the work directory')

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        low, high = self.temperature
        for name, layer in self._layers.items():
            begin = self._begins[name]
            quantizer = layer.quantizer
            quantizer.beta = self._beta(runner.iter, begin)
            quantizer.temperature = low + (high - low) * train_progress(
                runner, begin)
            if (layer.weight_scale is not None and self.approach == 'float'
                    and runner.iter == begin > 0):
                layer.reset_weight_scale()

    def after_val_epoch(self,
                        runner: Runner,
                        metrics: Optional[Dict[str, float]] = None) -> None:
        # EMAHook has put the trained weights back through ``.data``, unseen.
        for layer in ternary_layers(unwrapped(runner.model)).values():
            layer.quantizer.drop_cache()

    after_test_epoch = after_val_epoch

    def after_train(self, runner: Runner) -> None:
        for layer in self._layers.values():
            layer.quantizer.beta = 1.0

    def _beta(self, iteration: int, begin: int) -> float:
        if iteration >= begin:
            return 1.0
        return iteration / begin if self.approach == 'proximal' else 0.0

    def _begin_of(self, name: str) -> Union[int, float]:
        if not isinstance(self.begin, dict):
            return self.begin
        prefixes = [p for p in self.begin if _is_under(name, p)]
        return self.begin[max(prefixes, key=len)] if prefixes else 0


def _is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f'{prefix}.')
