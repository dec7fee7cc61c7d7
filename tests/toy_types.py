"""What tests/toy_config.py names."""
import json
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
    """Writes down, for each step, whether all ranks hold the same ternary
    weights, and the mean of their losses."""

    def before_train(self, runner):
        self.steps = []

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        weights = torch.cat([
            layer.ternary_weight.detach().flatten()
            for layer in ternary_layers(model).values()
        ])
        first, *others = all_gather(weights)
        losses = all_gather(torch.stack(list(outputs.values())).detach())
        means = torch.stack(losses).double().mean(0).tolist()
        self.steps.append(
            dict(
                zip(outputs, means),
                same=all(torch.equal(first, other) for other in others)))

    def after_train(self, runner):
        if is_main_process():
            with open(osp.join(runner.work_dir, 'ranks.json'), 'w') as file:
                json.dump(self.steps, file)
