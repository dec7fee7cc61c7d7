"""Training on the kernels' way equals training on the CPU's."""
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from mmtern import Scope, TernarySettings, TernConv2d, convert, ternary_layers
from mmtern.engine.hooks.regularizer import cosine_distances
from ..ranks import run_two_ranks
from .accelerator import DEVICE, go, own_way  # noqa: F401


def trained(settings: dict, layout: torch.memory_format) -> list:
    """Losses of an approach and a ternary phase, with the regularizer."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, groups=2), nn.ReLU(),
        nn.ConvTranspose2d(2, 2, 2), nn.Flatten(), nn.Linear(50, 2))
    convert(net, Scope(include=['.'], stem=True), TernarySettings(**settings))
    net.to(DEVICE, memory_format=layout)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    x = torch.randn(4, 4, 8, 8).to(DEVICE, memory_format=layout)
    losses = []
    for step in range(5):
        layers = ternary_layers(net).values()
        for layer in layers:
            layer.quantizer.beta = min(1.0, step / 2)
            layer.quantizer.temperature = step / 2
        pull = cosine_distances(layers)
        loss = (net(x) + net(x / 2)).square().mean() + 0.01 * pull
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.detach(), pull.detach()]
    with torch.no_grad():
        losses.append(net.eval()(x).square().mean())
    return losses


@pytest.mark.parametrize('layout',
                         [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('settings', [
    dict(),
    dict(min_sparsity=0.8),
    dict(threshold='exact', scale='lsq', floor=1.0),
    dict(threshold='max', scale='ttq'),
    dict(scale='lsq', forward='soft')
])
def test_both_ways_lead_to_the_same_losses(settings, layout):
    go(())
    expected = trained(settings, layout)
    go((DEVICE, ))
    actual = trained(settings, layout)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
    assert expected[-1] != expected[0]


@pytest.mark.parametrize('layout',
                         [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('beta', [0.25, 1.0])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_finds_nothing_to_cast(dtype, training, beta, layout):
    """The weight has autocast's dtype already, and is what a cast of the
    float32 one would be; its gradient arrives in float32."""
    go((DEVICE, ))
    torch.manual_seed(0)
    conv = TernConv2d(4, 3, 3, bias=False).to(DEVICE, memory_format=layout)
    conv.train(training)
    conv.quantizer.beta, conv.quantizer.temperature = beta, 2.0
    x = torch.randn(2, 4, 6, 6, device=DEVICE)
    # Triton's interpreter cuts off what bfloat16 does not hold.
    rounds = DEVICE == 'cuda' or dtype == torch.float16
    close = partial(
        torch.testing.assert_close,
        rtol=0 if rounds else 2**-5,
        atol=0 if rounds else 0.1)

    def gradient(output):
        conv.weight.grad = None
        output.float().square().sum().backward()
        return conv.weight.grad

    with torch.autocast(DEVICE, dtype):
        assert conv.ternary_weight.dtype == torch.float32
        weight = conv.ternary_weight.to(dtype)
        expected = F.conv2d(x, weight)
        expected_gradient = gradient(expected)
        assert expected_gradient.dtype == torch.float32
        close(conv.quantized_weight(), weight)
        output = conv(x)
    assert conv.quantized_weight().dtype == torch.float32
    close(output, expected)
    close(gradient(output), expected_gradient)


@pytest.mark.skipif(not dist.is_available(), reason='no torch.distributed')
def test_two_ranks_train_as_one_process(tmp_path):
    pytest.importorskip('triton')
    run_two_ranks('tests.test_layers.accelerator_ranks', tmp_path)
