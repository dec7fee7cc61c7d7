"""The regularizer's way into the detector's loss."""
from typing import Dict, Optional

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checks import check_choice, check_flag, is_count, is_number
from ..layers import TernaryWeight, cosine_distances
from .schedule import to_iterations, unwrapped_ternary_layers
from .surroundings import check_alone, forward_mode

SHAPES = ('linear', 'constant')


@HOOKS.register_module()
class TernaryRegularizerHook(Hook):
    """Adds ``lambda * sum_l sum_j [1 - cos(w_j, t_j)]`` to the detector's
    losses as ``loss_ternary``.

    It enters through a forward hook on the unwrapped model, as one more key
    of the dict that ``parse_losses`` sums. So AMP scaling, gradient
    accumulation and DDP see an ordinary loss, counted once: DDP averages over
    ranks a gradient that is equal on all of them. ``lambda`` itself is logged
    as ``train/ternary/lambda``.

    The distances are computed before the detector's forward. Autograd goes
    back from the newest operation to the oldest, so their gradients come last,
    when the activations are freed; the other way round, a gradient of each
    weight would wait beside all activations.

    Args:
        loss_weight (float): ``lambda`` at ``end``, per filter. Under AdamW at
            lr 3e-4, 1e-3 is strong; under SGD at lr 0.01 try 1e-2.
        begin (int): First epoch (or iteration) with the regularizer.
        end (int, optional): First one without it. Defaults to None, the run's
            end.
        shape (str): 'linear' grows from 0 at ``begin`` to ``loss_weight`` at
            ``end``, 'constant' holds it.
        by_epoch (bool): Whether ``begin`` and ``end`` count epochs. Defaults
            to True.
    """

    def __init__(self,
                 loss_weight: float = 1e-3,
                 begin: int = 0,
                 end: Optional[int] = None,
                 shape: str = 'linear',
                 by_epoch: bool = True) -> None:
        if not (is_number(loss_weight) and loss_weight >= 0):
            raise ValueError('loss_weight must be a number >= 0, but got '
                             f'{loss_weight!r}')
        if not (is_count(begin) and
                (end is None or isinstance(end, float) or is_count(end)
                 and end > begin)):
            raise ValueError(
                'begin and end must be whole numbers with 0 <= begin < end, '
                f'but got begin={begin!r}, end={end!r}')
        check_choice('shape', shape, SHAPES)
        check_flag('by_epoch', by_epoch)
        self.loss_weight = loss_weight
        self.begin, self.end = begin, end
        self.shape = shape
        self.by_epoch = by_epoch
        self._runner: Optional[Runner] = None
        self._layers: Dict[str, TernaryWeight] = {}
        self._loss: Optional[torch.Tensor] = None
        self._handles = []

    def before_train(self, runner: Runner) -> None:
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
                f'begin={self.begin} is iteration {begin}, but the run ends '
                f'at {runner.max_iters}')
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        self._handles = [
            model.register_forward_pre_hook(self._measure, with_kwargs=True),
            model.register_forward_hook(self._add_loss, with_kwargs=True)
        ]

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        strength = self.strength(runner)
        hub = runner.message_hub
        hub.update_scalar('train/ternary/lambda', strength)
        if strength == 0 and 'train/loss_ternary' in hub.log_scalars:
            # mmengine would log the last values to the end of the run.
            hub.update_scalar('train/loss_ternary', 0.0)

    def after_train(self, runner: Runner) -> None:
        while self._handles:
            self._handles.pop().remove()

    def strength(self, runner: Runner) -> float:
        """``lambda`` at the runner's iteration."""
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
        if mode != 'loss' or strength == 0:
            return
        self._loss = cosine_distances(self._layers.values()) * strength

    def _add_loss(self, model, args: tuple, kwargs: dict, output):
        loss, self._loss = self._loss, None
        return output if loss is None else dict(output, loss_ternary=loss)
