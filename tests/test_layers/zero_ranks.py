"""One of two ranks that train with ZeRO; run by test_zero.py."""
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from mmtern import TernConv2d
from mmtern.layers import project_weight
from ..ranks import gloo_rank


def main(rank: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*[TernConv2d(8, 8, 3, padding=1) for _ in range(4)])
    model = DistributedDataParallel(net)
    optimizer = ZeroRedundancyOptimizer(
        model.parameters(), optimizer_class=torch.optim.SGD, lr=0.5)
    x = torch.randn(
        4, 8, 9, 9, generator=torch.Generator().manual_seed(rank + 1))
    for _ in range(5):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        for name, layer in net.named_children():
            present = project_weight(layer.quantizer.settings, layer.weight)[1]
            assert torch.equal(layer.codes, present), f'{name} is stale'
            ranks = [torch.empty_like(layer.codes) for _ in '12']
            dist.all_gather(ranks, layer.codes.contiguous())
            assert torch.equal(*ranks), f'the ranks part in {name}'


if __name__ == '__main__':
    with gloo_rank(int(sys.argv[1]), sys.argv[2]):
        main(int(sys.argv[1]))
