"""The threshold that training follows without a sort."""
import pytest
import torch
from torch import nn

from mmtern import TernConv2d, TernLinear
from mmtern.layers import TernarySettings, thresholds
from mmtern.layers.ternarizer import Ternarizer
from mmtern.ops import exact_threshold, project, sparsity_threshold


def convnet(**settings) -> nn.Sequential:
    """Filters of 9 to 288 weights, every other one heavy-tailed."""
    torch.manual_seed(0)
    model = nn.Sequential(
        TernConv2d(4, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        TernConv2d(32, 32, 3, padding=1, groups=32), nn.ReLU(),
        TernConv2d(32, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU(),
        TernConv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(),
        TernLinear(256, 8))
    with torch.no_grad():
        for layer in ternary(model):
            layer.ternarizer = Ternarizer(TernarySettings(**settings))
            heavy = layer.weight[::2]
            tails = torch.distributions.StudentT(2.0).sample(heavy.shape)
            heavy.copy_(tails * heavy.std())
            layer.ternarizer.temperature = 2.0
    return model


def ternary(model: nn.Module) -> list:
    return [x for x in model if isinstance(x, (TernConv2d, TernLinear))]


@pytest.mark.parametrize('lr, interval', [(2e-5, 10), (1e-3, 1)])
def test_stays_near_the_exact_one_along_a_training_run(monkeypatch, lr,
                                                       interval):
    """60 steps of AdamW. At 1e-3 a heavy-tailed filter changes by its own
    size in a few steps; then each step has to be searched."""
    sorted_weights = []
    monkeypatch.setattr(
        thresholds, 'exact_threshold', lambda rows, *args: sorted_weights.
        append(rows.shape[1]) or exact_threshold(rows, *args))
    model = convnet(threshold='exact', refresh_interval=interval).train()
    layers = ternary(model)
    before = [x.weight.detach().clone() for x in layers]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    inputs, targets = torch.randn(32, 4, 6, 6), torch.randn(32, 8)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        for layer in layers:
            rows = layer.weight.detach().flatten(1)
            best = project(rows, exact_threshold(rows)).cosine()
            used = layer.ternarizer.project(layer.weight, True).cosine()
            assert (best - used).max() < 1e-3
        optimizer.step()
    for layer, weight in zip(layers, before):
        d = layer.weight.flatten(1).shape[1]
        assert (layer.weight - weight).norm() > 1e-3 * weight.norm()
        often = 60 if d < thresholds.FEW else 0
        assert sorted_weights.count(d) == often


def test_demanded_zeros_are_followed_along_a_training_run(monkeypatch):
    """40 steps of AdamW, in which weights change by a third of their size."""
    searched = []
    monkeypatch.setattr(
        thresholds, 'sparsity_threshold', lambda rows, share: searched.append(
            rows.shape[1]) or sparsity_threshold(rows, share))
    model = convnet(min_sparsity=0.8).train()
    layers = ternary(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs, targets = torch.randn(32, 4, 6, 6), torch.randn(32, 8)
    least, mean = 1.0, []
    for _ in range(40):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        for layer in layers:
            codes = layer.ternarizer.codes(layer.weight, True)
            zeros = (codes == 0).float().mean(1)
            least = min(least, float(zeros.min()))
            mean.append(float(zeros.mean()))
        optimizer.step()
    assert least > 0.75 and min(mean) > 0.79
    for layer in layers:
        d = layer.weight.flatten(1).shape[1]
        assert searched.count(d) == (40 if d < thresholds.FEW else 4)
        codes = layer.eval().ternarizer.codes(layer.weight)
        assert ((codes == 0).float().mean(1) >= 0.8 - 1e-6).all()
