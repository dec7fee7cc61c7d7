"""A toy detector-like model and runner, trained in milliseconds."""
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmtern import TernarySettings, convert


class ToyData(Dataset):
    """Eight fixed images and targets."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(8, 4, 6, 6, generator=generator)
        self.targets = torch.randn(8, 2, generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(
            inputs=self.images[index], data_samples=self.targets[index])


class ToyModel(BaseModel):
    """Conv, norm, conv, linear; ``forward`` as mmdet's detectors have it."""

    def __init__(self, ternary: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.neck = nn.Conv2d(8, 8, 1)
        self.bbox_head = nn.Linear(8, 2)
        if ternary:
            convert_toy(self)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.neck(self.backbone[:3](inputs.float()))
        out = self.bbox_head(x.mean((2, 3)))
        if mode == 'loss':
            loss = (out - torch.as_tensor(data_samples)).square().mean()
            return dict(loss_toy=loss)
        return out if mode == 'tensor' else [out]


def convert_toy(model: nn.Module, settings=None):
    from mmtern import Scope
    scope = Scope(include=['backbone', 'neck'], stem=True)
    # This threshold is followed from step to step, which is more to get wrong
    # in a resumed or distributed run than the default has.
    settings = settings or TernarySettings(threshold='exact')
    return convert(model, scope, settings)


def toy_runner(work_dir, hooks=(), model=None, epochs=3, **kwargs) -> Runner:
    """Runner over :class:`ToyData`: 4 iterations an epoch, quiet log."""
    torch.manual_seed(0)
    return Runner(
        model=model or ToyModel(),
        work_dir=str(work_dir),
        train_dataloader=kwargs.pop('train_dataloader',
                                    DataLoader(ToyData(), batch_size=2)),
        train_cfg=kwargs.pop('train_cfg',
                             dict(by_epoch=True, max_epochs=epochs)),
        optim_wrapper=kwargs.pop(
            'optim_wrapper',
            dict(optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.0))),
        custom_hooks=list(hooks),
        default_scope='mmdet',
        default_hooks=dict(
            dict(
                checkpoint=dict(
                    type='CheckpointHook', interval=1, by_epoch=True),
                logger=dict(type='LoggerHook', interval=1)),
            **kwargs.pop('default_hooks', {})),
        log_level='ERROR',
        experiment_name=f'toy_{work_dir.name}',
        **kwargs)
