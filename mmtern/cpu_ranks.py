"""Several processes on machines without an accelerator."""
import os

import torch
from mmengine.config import Config


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
