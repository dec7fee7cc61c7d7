"""Checks of the runner: sharded models and duplicate hooks are refused, and
settings that harm a ternary network are warned about."""
import logging
from typing import Dict, Iterator, List

from mmdet.models.detectors import SemiBaseDetector
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ...layers import TernaryWeight
from ..distributed import unwrapped

# By name: importing the classes needs torch built with distributed, or
# DeepSpeed installed.
SHARDED = ('FullyShardedDataParallel', 'FSDPModule', 'DeepSpeedEngine')


def check_alone(runner: Runner, hook: Hook) -> None:
    """Refuse a second hook of the same type, because the two would overwrite
    the phases of each other.

    Raises:
        ValueError: If the runner has more than one.
    """
    name = type(hook).__name__
    count = sum(type(other).__name__ == name for other in runner.hooks)
    if count > 1:
        raise ValueError(
            f'default_hooks and custom_hooks together must hold {name} once, '
            f'but they hold {count} whose phases overlap')


def refuse_sharded(model: nn.Module) -> None:
    """Raise where ranks hold parts of a weight.

    A filter is projected as a whole, and its ternary values are cached until
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


def warn_of_settings(runner: Runner, layers: Dict[str, TernaryWeight]) -> None:
    """Log one sentence for each setting of the run that suits a float
    detector but not a ternary one, with what to write instead.

    Args:
        runner (Runner): About to train.
        layers (dict): Its ternary layers by name.
    """
    for sentence in settings_to_mend(runner, layers):
        runner.logger.log(logging.WARNING, sentence)


def settings_to_mend(runner: Runner,
                     layers: Dict[str, TernaryWeight]) -> Iterator[str]:
    """Yield the sentences that :func:`warn_of_settings` logs."""
    model = unwrapped(runner.model)
    if isinstance(model, SemiBaseDetector):
        # The teacher does not train: it averages its student.
        layers = {
            name: layer
            for name, layer in layers.items()
            if not name.startswith('teacher.')
        }
    frozen = [n for n, x in layers.items() if not x.latent.requires_grad]
    if frozen:
        yield (f'{len(frozen)} ternary layers ({_some(frozen)}) are frozen '
               'and cannot adapt to their ternary values: write '
               'backbone=dict(frozen_stages=-1), or leave them full precision '
               "with ternary=dict(exclude=['...'])")
    still = [
        name for name, module in model.named_modules()
        if getattr(module, 'norm_eval', False) and _holds_ternary(module)
        and any(isinstance(x, _BatchNorm) for x in module.modules())
    ]
    if still:
        yield (f'{_some(still)} keeps the BatchNorm statistics of the float '
               'model, which do not fit the outputs of ternary weights: write '
               f'{still[0].rpartition(".")[2]}=dict(norm_eval=False)')
    fixed = list(_fixed_norms(model))
    if fixed:
        yield (f'the scales of {len(fixed)} BatchNorms beside ternary layers '
               f'({_some(fixed)}) are frozen and cannot adapt to them: write '
               f'{fixed[0].partition(".")[0]}=dict(norm_cfg=dict('
               'requires_grad=True))')
    decays = _decays(runner, layers)
    if decays:
        yield (f'weight decay of {max(decays):g} shrinks latent weights, '
               'which only brings them nearer to their thresholds: write '
               'optim_wrapper=dict(optimizer=dict(weight_decay=0.0))')
    # A runner without a config was given a model by its own code.
    if runner.cfg and not (runner.cfg.get('load_from')
                           or runner.cfg.get('resume')):
        yield ('load_from is not set, so ternary weights train from scratch: '
               "write load_from='...', the checkpoint of the trained float "
               'detector')
    if any(isinstance(hook, EMAHook) for hook in runner.hooks):
        yield ('EMAHook averages latent weights; what it validates and saves '
               'is the ternary projection of the average, which can differ in '
               'accuracy from that of the trained weights')


def _holds_ternary(module: nn.Module) -> bool:
    return any(isinstance(x, TernaryWeight) for x in module.modules())


def _fixed_norms(model: nn.Module) -> Iterator[str]:
    """Yield the names of BatchNorms without gradient that stand beside a
    ternary layer with one."""
    for prefix, module in model.named_modules():
        children = dict(module.named_children())
        if any(
                isinstance(x, TernaryWeight) and x.latent.requires_grad
                for x in children.values()):
            for name, x in children.items():
                if (isinstance(x, _BatchNorm) and x.affine
                        and not x.weight.requires_grad):
                    yield f'{prefix}.{name}'.lstrip('.')


def _decays(runner: Runner, layers: Dict[str, TernaryWeight]) -> List[float]:
    """Return the weight decays above 0 with which latent weights are
    trained."""
    latent = {id(layer.latent) for layer in layers.values()}
    return [
        group['weight_decay']
        for optimizer in optimizers_of(runner.optim_wrapper)
        for group in optimizer.param_groups
        if group.get('weight_decay', 0) > 0 and any(
            id(parameter) in latent for parameter in group['params'])
    ]


def _some(names: List[str]) -> str:
    return ', '.join(names[:2] + ['...'] * (len(names) > 2))


def wrappers_of(optim_wrapper: OptimWrapper) -> List[OptimWrapper]:
    """Return the wrappers of all optimizers of a run, each of one."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return list(optim_wrapper.values())
    return [optim_wrapper]


def optimizers_of(optim_wrapper: OptimWrapper) -> List[Optimizer]:
    """Return all optimizers of a run."""
    return [wrapper.optimizer for wrapper in wrappers_of(optim_wrapper)]


def forward_mode(args: tuple, kwargs: dict) -> str:
    """Return the ``mode`` that mmengine's ``BaseModel.forward(inputs,
    data_samples, mode='tensor')`` was called with."""
    return kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
