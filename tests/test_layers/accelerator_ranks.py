"""One of two ranks that train on the kernels' way, beside one process that
has both halves of the batch; run by test_accelerator.py."""
import sys

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmtern import Scope, convert, ternary_layers
from mmtern.ops import fused
from ..ranks import gloo_rank


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3),
        nn.ReLU(), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 2))
    convert(net, Scope(include=['.'], stem=True))
    return net


def main(rank: int) -> None:
    fused.DEVICES = ('cpu', )
    assert fused.kernels_for(torch.ones(1, 1)) is not None
    alone, net = network(), network()
    # Buckets of a few layers, that are exchanged during the backward.
    shared = DistributedDataParallel(net, bucket_cap_mb=1e-4)
    x = torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    half = x[2 * rank:2 * rank + 2]
    optimizers = [
        torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for model in (alone, net)
    ]
    start = net[0].weight.detach().clone()
    for step in range(4):
        for model in (alone, net):
            for layer in ternary_layers(model).values():
                layer.quantizer.beta = min(1.0, step / 2)
                layer.quantizer.temperature = step
        losses = alone(x).square().mean(), shared(half).square().mean()
        for optimizer, loss in zip(optimizers, losses):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(
            net.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-6)
        for mine, theirs in zip(
                ternary_layers(net).values(),
                ternary_layers(alone).values()):
            assert torch.equal(mine.codes, theirs.codes)
    assert not torch.allclose(net[0].weight, start)


if __name__ == '__main__':
    with gloo_rank(int(sys.argv[1]), sys.argv[2]):
        main(int(sys.argv[1]))
