"""The guard that stops a run whose weights are no longer finite."""
from typing import Dict, List, Optional

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ...checks import check_positive_count, first_three
from ..distributed import unwrapped


def non_finite_tensors(model: torch.nn.Module) -> List[str]:
    """Return the names of the parameters and buffers that hold NaN or
    infinity.

    One fused reduction and one transfer to the host a device and dtype,
    however many layers there are.
    """
    groups: Dict[tuple, Dict[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            key = tensor.device, tensor.dtype
            groups.setdefault(key, {})[name] = tensor
    bad: List[str] = []
    with torch.no_grad():
        for tensors in groups.values():
            # The largest magnitude: it neither hides NaN nor overflows.
            largest = torch._foreach_norm(list(tensors.values()), float('inf'))
            finite = torch.stack(largest).isfinite().tolist()
            bad += [name for name, ok in zip(tensors, finite) if not ok]
    return bad


@HOOKS.register_module()
class TernaryGuardHook(Hook):
    """Ends the run with the names of the weights that became NaN or
    infinite.

    mmengine trains on with such weights, and writes them over good
    checkpoints; this one looks every ``interval`` iterations and at the end
    of what a checkpoint follows, so the last file in the work directory stays
    sound. All ranks look, and all end when one of them finds something: its
    BatchNorm statistics are its own. The weights are watched and not the
    loss, because float16 training skips the steps of infinite losses itself.

    Args:
        interval (int): Iterations between two looks. Defaults to 50.
    """
    # After whatever changes weights or statistics, before a checkpoint.
    priority = 'LOW'

    def __init__(self, interval: int = 50) -> None:
        check_positive_count('interval', interval)
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        self._check(runner)

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        if self.every_n_train_iters(
                runner, self.interval) or _saves_after_this(runner):
            self._check(runner)

    def after_train_epoch(self,
                          runner: Runner,
                          metrics: Optional[dict] = None) -> None:
        self._check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # Where the run's own code saves. Of several ranks only the first is
        # here, and the others would wait for it.
        if get_world_size() == 1:
            self._check(runner)

    def _check(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        bad = non_finite_tensors(model)
        count = torch.tensor(len(bad))
        all_reduce(count, 'max')
        if count:
            where = first_three(bad) or "another rank's weights or statistics"
            raise FloatingPointError(
                f'NaN or infinity in {where} at iteration {runner.iter}: '
                'lower the learning rate or clip gradients, and resume from '
                'the last checkpoint, which is sound')


def _saves_after_this(runner: Runner) -> bool:
    """Return whether a checkpoint is written after this training iteration."""
    return any(
        isinstance(hook, CheckpointHook) and not hook.by_epoch and (
            hook.every_n_train_iters(runner, hook.interval) or
            (hook.save_last and hook.is_last_train_iter(runner)))
        for hook in runner.hooks)
