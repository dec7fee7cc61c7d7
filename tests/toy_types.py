"""What tests/toy_config.py names."""
import os.path as osp

import torch
from mmengine.dist import all_gather, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS, HOOKS, MODELS

from mmtern import ternary_layers
from .toy import ToyData, ToyModel

DATASETS.register_module(module=ToyData)


@MODELS.register_module()
class FrozenNormToy(ToyModel):
    """Toy whose result does not depend on how a batch is divided."""

    def train(self, mode=True):
        super().train(mode)
        self.backbone[1].eval()
        return self


@HOOKS.register_module()
class RankWatch(Hook):
    """Counts the steps after which all ranks hold the same ternary
    weights."""

    def before_train(self, runner):
        self.same = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        weights = torch.cat([
            layer.ternary_weight.detach().flatten()
            for layer in ternary_layers(model).values()
        ])
        first, *others = all_gather(weights)
        self.same += all(torch.equal(first, other) for other in others)

    def after_train(self, runner):
        if is_main_process():
            with open(osp.join(runner.work_dir, 'same_steps'), 'w') as file:
                file.write(str(self.same))
