"""Gradients come when those of a float model come, so that DDP can exchange
them while the backward goes on."""
import pytest
import torch
from torch import nn

from mmtern import Scope, TernarySettings, convert, ternary_layers
from .accelerator import DEVICE, both_ways, go, own_way  # noqa: F401


class Net(nn.Module):
    """A trunk with norms, and a head that two inputs share. No layer has a
    bias: whether it or the weight beside it comes first does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.ModuleList([
            nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4),
                nn.ReLU()) for _ in range(4)
        ])
        self.head = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.fc = nn.Linear(4, 2, bias=False)

    def forward(self, x: torch.Tensor, seen: list) -> torch.Tensor:
        outs = []
        for index, block in enumerate(self.trunk):
            x = block(x)
            x.register_hook(lambda grad, index=index: seen.append(index))
            outs.append(self.head(x) if index > 1 else 0)
        return self.fc(sum(outs).mean((2, 3)))


def order_of_gradients(net: nn.Module) -> list:
    """Names of parameters as their gradients are complete, and numbers of
    blocks as the backward reaches their outputs."""
    seen: list = []
    for name, parameter in net.named_parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _, name=name: seen.append(name))
    x = torch.randn(2, 4, 6, 6, device=DEVICE)
    for _ in range(2):
        net(x, seen).square().sum().backward()
    return seen


@both_ways
@pytest.mark.parametrize('beta', [0.5, 1.0])
@pytest.mark.parametrize('kwargs',
                         [dict(), dict(threshold='max', scale='lsq')])
def test_gradients_come_in_the_order_of_a_float_model(way, beta, kwargs):
    go(way)
    torch.manual_seed(0)
    expected = order_of_gradients(Net().to(DEVICE))
    assert expected[0].startswith('fc') and expected[-1].startswith('trunk.0')
    torch.manual_seed(0)
    net = Net().to(DEVICE)
    convert(net, Scope(include=['.'], stem=True), TernarySettings(**kwargs))
    layers = ternary_layers(net).values()
    assert len(layers) == 6
    for layer in layers:
        layer.quantizer.beta, layer.quantizer.temperature = beta, 2.0
    assert order_of_gradients(net) == expected
