"""What a run may put around ternary layers and beside a hook."""
import logging

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import nn

# By name: importing the classes needs torch built with distributed, or
# DeepSpeed installed.
SHARDED = ('FullyShardedDataParallel', 'FSDPModule', 'DeepSpeedEngine')


def check_alone(runner: Runner, hook: Hook) -> None:
    """Two hooks of one kind would overwrite each other's phases.

    Raises:
        ValueError: If the runner has more than one.
    """
    name = type(hook).__name__
    count = sum(type(other).__name__ == name for other in runner.hooks)
    if count > 1:
        raise ValueError(f'custom_hooks must hold {name} once, but it holds '
                         f'{count} whose phases overlap')


def refuse_sharded(model: nn.Module) -> None:
    """Raise where ranks hold parts of a weight.

    A filter is projected as a whole, and its ternary values are kept until
    the weight's version counter moves; gathering shards does not move it.

    Raises:
        ValueError: If ``model`` or a part of it is sharded.
    """
    for module in model.modules():
        for kind in type(module).__mro__:
            if kind.__name__ in SHARDED:
                raise ValueError(
                    'ternary layers need whole weights on each rank, but '
                    f'the model is wrapped in {kind.__name__}: train with '
                    'MMDistributedDataParallel')


def warn_of_averaging(runner: Runner) -> None:
    """Tell what an average of latent weights means."""
    if any(isinstance(hook, EMAHook) for hook in runner.hooks):
        runner.logger.log(
            logging.WARNING,
            'EMAHook averages latent weights; what it validates and saves is '
            'the ternary projection of the average, which can differ in '
            'accuracy from that of the trained weights')


def forward_mode(args: tuple, kwargs: dict) -> str:
    """The ``mode`` that mmengine's ``BaseModel.forward(inputs, data_samples,
    mode='tensor')`` was called with."""
    return kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
