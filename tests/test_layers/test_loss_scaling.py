"""float16 training with a loss scaler, whose first steps overflow and are
skipped."""
import pytest
import torch
from torch import nn

from mmtern import Scope, convert, ternary_layers
from mmtern.layers import project_weight


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 36, 4))
    convert(net, Scope(include=['.'], stem=True))
    return net


def test_skipped_steps_leave_nothing_stale_and_no_nan():
    net = network()
    layers = ternary_layers(net).values()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler(
        'cpu', init_scale=2.0**24, growth_interval=20)
    x, y = torch.randn(8, 4, 6, 6), torch.randn(8, 4)
    losses, skipped = [], 0
    for step in range(200):
        for layer in layers:
            layer.quantizer.beta = min(1.0, step / 50)
            layer.quantizer.temperature = step / 50
        before = [layer.weight.detach().clone() for layer in layers]
        with torch.autocast('cpu', torch.float16):
            out = net(x)
            assert out.dtype == torch.float16
            loss = (out.float() - y).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        finite = all(p.grad.isfinite().all() for p in net.parameters())
        scaler.step(optimizer)
        scaler.update()
        for layer, weight in zip(layers, before):
            assert torch.equal(layer.weight, weight) != finite
            _, codes = project_weight(layer.quantizer.settings, layer.weight)
            assert torch.equal(layer.codes, codes)
        losses.append(float(loss))
        skipped += not finite
    assert 0 < skipped < 50
    assert all(torch.tensor(losses).isfinite())
    assert losses[-1] < losses[0] / 2
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('beta', [0.5, 1.0])
def test_ternary_maths_stays_in_float32(beta):
    net, twin = network(), network()
    x = torch.randn(2, 4, 6, 6)
    for model in (net, twin):
        for layer in ternary_layers(model).values():
            layer.quantizer.beta, layer.quantizer.temperature = beta, 3.0
    for layer, other in zip(
            ternary_layers(net).values(),
            ternary_layers(twin).values()):
        with torch.autocast('cpu', torch.float16):
            projection, weight = layer.projection, layer.ternary_weight
        assert all(field.dtype == torch.float32 for field in projection)
        assert weight.dtype == torch.float32
        assert torch.equal(weight, other.ternary_weight)
        for mine, theirs in zip(projection, other.projection):
            assert torch.equal(mine, theirs)
    with torch.autocast('cpu', torch.float16):
        loss = net(x).float().sum()
    loss.backward()
    twin(x).sum().backward()
    for mine, theirs in zip(net.parameters(), twin.parameters()):
        assert mine.grad.dtype == torch.float32
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0.1, atol=0.1)
