"""The hook that adds the hyperspherical regularizer to the detector's
losses."""
from typing import Dict, Iterable, Optional, Union

import torch
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ...checks import check_choice, check_flag, is_number
from ...layers import TernaryWeight
from ...ops import Projection, cosine_distance
from ..distributed import unwrapped
from .attached import AttachedHook
from .runner_checks import check_alone, forward_mode
from .schedule import is_moment, to_iterations, unwrapped_ternary_layers

SHAPES = ('linear', 'constant')


def cosine_distances(layers: Iterable[TernaryWeight]) -> Tensor:
    """Return the regularizer of layers in training: the sum of
    :func:`mmtern.ops.cosine_distance` over all latent weights with a
    gradient, each counted once, a scalar.

    Args:
        layers (Iterable[TernaryWeight]): Ternary layers, at least one of
            them with a gradient.
    """
    distinct = {id(x.latent): x for x in layers if x.latent.requires_grad}
    filters = [layer.filters(layer.latent) for layer in distinct.values()]
    projections = [layer.projection for layer in distinct.values()]
    together = Projection(*map(torch.cat, zip(*projections)))
    return cosine_distance(filters, together)


@HOOKS.register_module()
class TernaryRegularizerHook(AttachedHook):
    """Adds ``lambda * sum_l sum_j [1 - cos(w_j, t_j)]`` to the detector's
    losses as ``loss_ternary``.

    It enters through a forward hook on the unwrapped model, as one more key
    of the dict that ``parse_losses`` sums. So AMP scaling, gradient
    accumulation and DDP see an ordinary loss, counted once: DDP averages over
    ranks a gradient that is equal on all of them. ``lambda`` itself is
    recorded by :class:`TernaryStatisticsHook`: four decimals of a log line
    would round it to 0.

    The distances are computed before the detector's forward. Autograd goes
    back from the newest operation to the oldest, so their gradients come last,
    when the activations are freed; the other way round, a gradient of each
    weight would wait beside all activations.

    Args:
        loss_weight (float): ``lambda`` at ``end``, per filter. Defaults to
            1e-4, weak enough for the detector's own loss to lead.
        begin (int or float): First epoch (or iteration) with the
            regularizer, or, between 0 and 1, a share of the run.
        end (int or float, optional): First one without it, likewise. Defaults
            to None, the run's end.
        shape (str): 'linear' grows from 0 at ``begin`` to ``loss_weight`` at
            ``end``, 'constant' holds it.
        by_epoch (bool): Whether ``begin`` and ``end`` count epochs. Defaults
            to True.

    Raises:
        ValueError: For another value of an argument; when training begins, if
            the run is too short for ``begin`` and ``end``, or all ternary
            layers are frozen.
    """

    def __init__(self,
                 loss_weight: float = 1e-4,
                 begin: Union[int, float] = 0,
                 end: Union[int, float, None] = None,
                 shape: str = 'linear',
                 by_epoch: bool = True) -> None:
        super().__init__()
        if not (is_number(loss_weight) and loss_weight >= 0):
            raise ValueError('loss_weight must be a number >= 0, but got '
                             f'{loss_weight!r}')
        alike = type(begin) is type(end)
        if not (is_moment(begin) and (end is None or is_moment(end))
                and not (end is not None and alike and begin >= end)):
            raise ValueError(
                'begin and end must be whole numbers >= 0 or shares of the '
                'run between 0.0 and 1.0, begin before end, but got '
                f'begin={begin!r}, end={end!r}')
        check_choice('shape', shape, SHAPES)
        check_flag('by_epoch', by_epoch)
        self.loss_weight = loss_weight
        self.begin, self.end = begin, end
        self.shape = shape
        self.by_epoch = by_epoch
        self._runner: Optional[Runner] = None
        self._layers: Dict[str, TernaryWeight] = {}
        self._loss: Optional[torch.Tensor] = None

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        check_alone(runner, self)
        self._runner = runner
        self._layers = unwrapped_ternary_layers(runner, type(self).__name__)
        begin, end = self._span(runner)
        if end > runner.max_iters:
            raise ValueError(
                f'end={self.end} is iteration {end}, but the run ends at '
                f'{runner.max_iters}')
        if begin >= end:
            raise ValueError(
                f'begin={self.begin} is iteration {begin}, but the '
                f'regularizer or the run ends at {end}')
        if not any(x.latent.requires_grad for x in self._layers.values()):
            raise ValueError(
                f'{type(self).__name__} turns the filters of ternary layers, '
                f'but all {len(self._layers)} of them are frozen')
        model = unwrapped(runner.model)
        self.handles += [
            model.register_forward_pre_hook(
                lambda *call: self._measure(*call), with_kwargs=True),
            model.register_forward_hook(
                lambda *call: self._add_loss(*call), with_kwargs=True)
        ]

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        hub = runner.message_hub
        off = self.strength(runner) == 0
        if off and 'train/loss_ternary' in hub.log_scalars:
            # mmengine would log the last values to the end of the run.
            hub.update_scalar('train/loss_ternary', 0.0)

    def strength(self, runner: Runner) -> float:
        """Return ``lambda`` at the runner's iteration."""
        begin, end = self._span(runner)
        if not begin <= runner.iter < end:
            return 0.0
        if self.shape == 'constant':
            return self.loss_weight
        return self.loss_weight * (runner.iter - begin + 1) / (end - begin)

    def _span(self, runner: Runner) -> tuple:
        begin = to_iterations(runner, self.begin, self.by_epoch)
        end = (
            runner.max_iters if self.end is None else to_iterations(
                runner, self.end, self.by_epoch))
        return begin, end

    def _measure(self, model, args: tuple, kwargs: dict) -> None:
        mode = forward_mode(args, kwargs)
        strength = self.strength(self._runner)
        self._loss = None
        # Not while BatchNorm's statistics are estimated.
        if mode != 'loss' or strength == 0 or not torch.is_grad_enabled():
            return
        self._loss = cosine_distances(self._layers.values()) * strength

    def _add_loss(self, model, args: tuple, kwargs: dict, output):
        loss, self._loss = self._loss, None
        return output if loss is None else dict(output, loss_ternary=loss)
