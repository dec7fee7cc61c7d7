"""Weights ternarized together are those ternarized one by one."""
import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from mmtern import Scope, TernarySettings, convert, ternary_layers
from mmtern.layers import cosine_distances
from mmtern.layers import projector as module


class Net(nn.Module):
    """Filters of 72, 54, 54, 54, 7 and 6 weights; one layer runs twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(8, 6, 3, padding=1)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.third = nn.Conv2d(6, 7, 3, padding=1)
        self.unused = nn.Conv2d(6, 5, 3)
        self.last = nn.Linear(7, 6)
        self.top = nn.Linear(6, 2)

    def forward(self, x):
        x = self.twice(self.twice(self.first(x).relu()).relu()).relu()
        return self.top(self.last(self.third(x).mean((2, 3))))


def twins(monkeypatch, **settings):
    """The same ternary net twice; the second one's weights joined."""
    monkeypatch.setattr(module, 'ONE_BY_ONE', ())
    torch.manual_seed(0)
    alone = Net()
    joined = copy.deepcopy(alone)
    for net in (alone, joined):
        convert(net, Scope(include=["."]), TernarySettings(**settings))
        for layer in ternary_layers(net).values():
            layer.ternarizer.temperature = 3.0
    for layer in ternary_layers(alone).values():
        layer.ternarizer.joint = None
    return alone, joined


def assert_equal_gradients(alone, joined, **tolerances):
    for one, other in zip(alone.parameters(), joined.parameters()):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, **tolerances)


def assert_equal_steps(alone, joined, steps=4, before_step=None):
    optimizers = [
        torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        for net in (alone, joined)
    ]
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        x = torch.randn(5, 8, 7, 7, generator=generator)
        for net, optimizer in zip((alone, joined), optimizers):
            if before_step is not None:
                before_step(net, step)
            net(x).square().mean().backward()
        assert_equal_gradients(alone, joined)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for one, other in zip(alone.parameters(), joined.parameters()):
        torch.testing.assert_close(one, other)
    changed = ternary_layers(alone)['third'].weight
    torch.manual_seed(0)
    assert not torch.allclose(changed, Net().third.weight)


@pytest.mark.parametrize(
    'settings', [
        dict(),
        dict(threshold='exact', scale='lsq'),
        dict(threshold='max', normalize=False),
        dict(min_sparsity=0.7, refresh_interval=2),
        dict(threshold='exact', min_sparsity=0.7, refresh_interval=2),
        dict(floor=1.0),
        dict(rescale='update'),
    ],
    ids=str)
def test_steps_are_those_of_weights_alone(monkeypatch, settings):
    assert_equal_steps(*twins(monkeypatch, **settings))


def test_layers_of_one_length_are_measured_together(monkeypatch):
    _, net = twins(monkeypatch)
    calls = []
    measured = module.Projector._measured
    monkeypatch.setattr(module.Projector, '_measured',
                        lambda *args: calls.append(args) or measured(*args))
    net(torch.randn(1, 8, 7, 7)).sum().backward()
    assert not calls
    layers = ternary_layers(net)
    assert layers['twice'].ternarizer.joint is layers['third'].ternarizer.joint
    assert layers['first'].ternarizer.joint is not (
        layers['third'].ternarizer.joint)


def test_layers_of_unlike_settings_stay_apart(monkeypatch):
    monkeypatch.setattr(module, 'ONE_BY_ONE', ())
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 64, 3))
    convert(net, Scope(model_sparsity=0.6))
    first, second = ternary_layers(net).values()
    assert first.ternarizer.settings != second.ternarizer.settings
    assert first.ternarizer.joint is not second.ternarizer.joint


@pytest.mark.parametrize(
    'settings', [
        dict(scale='ttq', threshold='max'),
        dict(forward='soft'),
    ],
    ids=str)
def test_learned_scales_and_soft_forwards_stay_alone(monkeypatch, settings):
    alone, joined = twins(monkeypatch, **settings)
    for layer in ternary_layers(joined).values():
        assert layer.ternarizer.joint is None
    assert_equal_steps(alone, joined, 1)


def test_phases_temperatures_and_frozen_layers_may_differ(monkeypatch):

    def before_step(net, step):
        layers = ternary_layers(net)
        layers['twice'].ternarizer.active = step >= 1
        layers['third'].ternarizer.active = step >= 2
        layers['third'].ternarizer.temperature = 1.0 + step
        layers['first'].weight.requires_grad_(step != 2)

    assert_equal_steps(*twins(monkeypatch), 5, before_step)


def test_channels_last(monkeypatch):
    alone, joined = twins(monkeypatch)
    assert_equal_steps(alone, joined.to(memory_format=torch.channels_last))


def test_accumulated_gradients_ternarize_once(monkeypatch):
    alone, joined = twins(monkeypatch)
    x, y = torch.randn(2, 5, 8, 7, 7)
    weights = []
    for net in (alone, joined):
        for part in (x, y):
            net(part).square().mean().backward()
            weights.append(ternary_layers(net)['third'].ternary_weight)
    assert weights[2] is weights[3]
    assert_equal_gradients(alone, joined)


def test_an_edit_of_one_weight_is_seen(monkeypatch):
    _, net = twins(monkeypatch)
    x = torch.randn(1, 8, 7, 7)
    net(x)
    layer = ternary_layers(net)['third']
    before = layer.ternary_weight.detach().clone()
    with torch.no_grad():
        layer.weight.neg_()
    torch.testing.assert_close(layer.ternary_weight.detach(), -before)


def test_copies_start_by_themselves(monkeypatch):
    _, net = twins(monkeypatch)
    twin = copy.deepcopy(net)
    x = torch.randn(2, 8, 7, 7)
    torch.testing.assert_close(net(x), twin(x))
    assert ternary_layers(twin)['third'].ternarizer.joint is None


def test_eval_and_no_grad_agree_with_weights_alone(monkeypatch):
    alone, joined = twins(monkeypatch)
    x = torch.randn(2, 8, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(alone(x), joined(x))
    torch.testing.assert_close(alone.eval()(x), joined.eval()(x))


@pytest.fixture
def no_collector():
    gc.disable()
    yield
    gc.enable()


def test_nothing_is_left_of_a_step(monkeypatch, no_collector):
    _, net = twins(monkeypatch)
    net(torch.randn(1, 8, 7, 7)).sum().backward()
    layers = ternary_layers(net)
    node = weakref.ref(layers['third'].ternary_weight)
    assert node() is not None
    for layer in layers.values():
        layer.ternarizer.drop_cache()
    assert node() is None


def test_nothing_is_left_of_a_model(monkeypatch, no_collector):
    _, net = twins(monkeypatch)
    net(torch.randn(1, 8, 7, 7)).sum().backward()
    weight = weakref.ref(net.third.weight)
    third = net.third
    del net
    # What is left is measured without the layers that are gone.
    assert third.ternary_weight.shape == (7, 6, 3, 3)
    with torch.no_grad():
        third.weight.neg_()
    assert third.ternary_weight.shape == (7, 6, 3, 3)
    del third
    assert weight() is None


def test_regularizer_is_that_of_weights_alone(monkeypatch):
    alone, joined = twins(monkeypatch)
    for net in (alone, joined):
        layers = list(ternary_layers(net).values())
        layers[0].weight.requires_grad_(False)
        for layer in layers[:3]:
            layer.ternarizer.active = False
        cosine_distances(layers).backward()
    assert_equal_gradients(alone, joined)
    # Of some of the layers that were measured together, then of one twice.
    values = [
        float(cosine_distances([net.third, net.unused, net.unused]))
        for net in (alone, joined)
    ]
    assert values[0] == pytest.approx(values[1])
    once = cosine_distances([joined.third, joined.unused])
    assert values[1] > float(once) > 0


def test_mixed_precision(monkeypatch):
    alone, joined = twins(monkeypatch)
    x = torch.randn(5, 8, 7, 7)
    for net in (alone, joined):
        with torch.autocast('cpu', torch.bfloat16):
            loss = net(x).square().mean()
        loss.backward()
    assert_equal_gradients(alone, joined, rtol=0.02, atol=1e-3)


def test_half_weights(monkeypatch):
    alone, joined = (net.bfloat16() for net in twins(monkeypatch))
    x = torch.randn(5, 8, 7, 7).bfloat16()
    for net in (alone, joined):
        net(x).square().mean().backward()
    assert_equal_gradients(alone, joined)
