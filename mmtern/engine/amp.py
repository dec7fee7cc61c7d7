"""Mixed precision on the CPU, which mmengine lacks."""
from contextlib import ExitStack, contextmanager
from typing import Any, Iterator

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.utils import apply_to
from torch import nn

from .distributed import unwrapped


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """An optimizer wrapper with bfloat16 autocast on the CPU.

    mmengine's ``AmpOptimWrapper`` refuses to run without an accelerator.
    bfloat16 has float32's range, so there is no loss scale.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast(
                'cpu', dtype=torch.bfloat16), _float32_proposals(model):
            yield


@contextmanager
def _float32_proposals(model: Any) -> Iterator[None]:
    """Within this context, a two-stage detector's features and proposals are
    cast to float32: mmcv's RoIAlign and NMS have no bfloat16 on a CPU, and its
    8 bits would round a box by whole pixels."""
    model = unwrapped(model)
    with ExitStack() as hooks:
        if hasattr(model, 'rpn_head'):
            features = model.neck if model.with_neck else model.backbone
            for part in (features, model.rpn_head):
                hooks.enter_context(part.register_forward_hook(_to_float32))
        yield


def _to_float32(module: nn.Module, inputs: tuple, output: Any) -> Any:
    return apply_to(output, torch.is_tensor, torch.Tensor.float)
