"""A step of ternary layers reads no value back from the device, for which an
accelerator would have to finish all that was queued before. Tensors on the
meta device have no values: reading one raises."""
import pytest
import torch
from torch import nn

from mmtern import TernarySettings, convert
from mmtern.convert import ternary_layers
from mmtern.engine.hooks.regularizer import cosine_distances


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A training step as the hooks make it, regularizer included."""
    layers = ternary_layers(model).values()
    x = torch.empty(2, 3, 16, 16, device='meta')
    loss = model(x).sum() + cosine_distances(layers)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize('settings', [
    dict(),
    dict(min_sparsity=0.8),
    dict(threshold='exact'),
    dict(threshold='exact', min_sparsity=0.8),
    dict(threshold='max', scale='ttq'),
    dict(scale='lsq', forward='soft'),
])
def test_a_step_reads_nothing_back(settings):
    with torch.device('meta'):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Flatten(),
            nn.Linear(16 * 144, 4))
    convert(model, settings=TernarySettings(**settings))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for temperature in (0.0, 2.0, 4.0, 4.0):
        for layer in ternary_layers(model).values():
            layer.quantizer.temperature = temperature
        step(model, optimizer)


def test_reading_back_raises():
    weight = torch.empty(4, device='meta')
    with pytest.raises(RuntimeError):
        bool(weight.sum() > 0)
