"""Plain layers in place of ternary ones, for tracing and export."""
import copy
from functools import lru_cache
from typing import Tuple, Type

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..layers import TernaryWeight
from .convert import ternary_layers


class _Frozen(nn.Module):
    """The mix-in of frozen layers: they hold ``a * t`` and cannot train."""

    def train(self, mode: bool = True):
        """Stay in eval.

        Raises:
            RuntimeError: If ``mode`` is True. A step on ``a * t`` would leave
                the three values, and the latent weight is gone.
        """
        if mode:
            raise RuntimeError(
                f'{type(self).__name__} holds ternary values without the '
                'latent weight behind them and cannot be trained; train the '
                'model that mmtern.freeze() was called on')
        return super().train(False)

    def __reduce__(self) -> Tuple:
        # The class has no place in a module that pickle could find it at.
        return _new_frozen, (type(self).__bases__[1], ), self.__dict__


@lru_cache(maxsize=None)
def _frozen_type(plain_type: type) -> type:
    return type(f'Frozen{plain_type.__name__}', (_Frozen, plain_type), {})


def _new_frozen(plain_type: type) -> nn.Module:
    """Return an empty layer, for copies and pickles to fill."""
    frozen_type: Type[nn.Module] = _frozen_type(plain_type)
    return frozen_type.__new__(frozen_type)


class _CopiesOfAnyTensor(TorchFunctionMode):
    """Lets ``deepcopy`` take tensors that a graph computed, without the graph:
    mmdet's dynamic mask heads (CondInst, BoxInst) keep some of their last
    loss."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def freeze(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Make a plain model of a ternary one, in eval.

    Ternary layers become layers whose ``weight`` is ``a * t``. They compute,
    bit by bit, what the ternary layers compute in eval, and know nothing of
    latent weights, thresholds and caches, so that ``torch.export``,
    ``torch.jit``, ``torch.func`` and ``copy.deepcopy`` take the model.

    Args:
        model (nn.Module): With or without ternary layers.
        inplace (bool): Change ``model`` itself, whose latent weights are then
            lost. Defaults to False: a copy, with ``model`` left as it is.

    Returns:
        nn.Module: In eval. The weights of its former ternary layers want no
        gradient, and ``train()`` on it raises ``RuntimeError``.
    """
    if not inplace:
        with _CopiesOfAnyTensor():
            model = copy.deepcopy(model)
    # mmdet's distillation returns nothing from train() and so from eval().
    model.eval()
    # All weights before any layer changes: layers may hold one parameter,
    # which their copies go on to do.
    shared, weights = {}, {}
    for layer in ternary_layers(model).values():
        key = (id(layer.latent), id(layer.weight_scale))
        if key not in shared:
            shared[key] = nn.Parameter(
                layer.ternary_weight.detach().clone(), requires_grad=False)
        weights[layer] = shared[key]
    for layer, weight in weights.items():
        _make_plain(layer, weight)
    return model


def _make_plain(layer: TernaryWeight, weight: nn.Parameter) -> None:
    name, plain_type = layer.latent_name, layer.plain_type
    del layer.weight_scale, layer.quantizer
    layer.__class__ = _frozen_type(plain_type)
    setattr(layer, name, weight)
