"""The process group of a run: gloo where there is no CUDA, the model behind
its wrapper, and its orderly end."""
import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from torch import nn


def use_gloo_on_cpu(cfg: Config) -> None:
    """Start torchrun's process group with gloo where there is no CUDA.

    mmengine's launcher asks for a CUDA device, and its default model wrapper
    hands one to DDP. It leaves a group alone that exists already.
    """
    if cfg.get('launcher') != 'pytorch' or torch.cuda.is_available():
        return
    if 'RANK' not in os.environ or torch.distributed.is_initialized():
        return
    torch.distributed.init_process_group('gloo')
    if cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg.device_ids = None


def unwrapped(model: nn.Module) -> Any:
    """Return the model that a wrapper such as DDP holds, or ``model`` itself
    where it has none."""
    return model.module if is_model_wrapper(model) else model


def leave_process_group() -> None:
    """End what several processes share, once they are done and nothing of a
    run is in use: left to the interpreter's exit, gloo's threads now and then
    abort it."""
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # a model in DDP holds the group
        dist.destroy_process_group()
