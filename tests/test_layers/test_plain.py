"""Plain layers compute with ternary filters."""
import copy

import pytest
import torch
from torch import nn

from mmtern import Scope, convert, ternary_layers
from tests.literal import literal_ternary

LAYERS = [
    (nn.Conv1d(4, 6, 3), (4, 9)),
    (nn.Conv1d(4, 6, 3, 2, 1, bias=False), (4, 9)),
    (nn.Conv1d(4, 6, 3, padding=2, dilation=2, groups=2), (4, 9)),
    (nn.Conv2d(4, 6, 3), (4, 7, 6)),
    (nn.Conv2d(4, 6, 3, (2, 1), (0, 1), bias=False), (4, 7, 6)),
    (nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (4, 7, 6)),
    (nn.Conv2d(4, 8, 3, groups=4), (4, 7, 6)),
    (nn.Conv2d(4, 6, 3, padding='same', padding_mode='circular'), (4, 7, 6)),
    (nn.Linear(4, 6), (5, 4)),
    (nn.Linear(4, 6, bias=False), (4, )),
]


@pytest.mark.parametrize('plain, shape', LAYERS, ids=str)
@pytest.mark.parametrize('training', [True, False])
def test_forward_and_gradient(plain, shape, training):
    plain = copy.deepcopy(plain).double()
    twin = copy.deepcopy(plain)
    convert(twin, Scope(stem=True, depthwise=True))
    assert len(ternary_layers(twin)) == 1
    keys = list(plain.state_dict())
    assert list(twin.train(training).state_dict()) == keys
    plain.weight.data = literal_ternary(plain.weight.detach())
    ours = torch.randn(2, *shape).double().requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    out, expected = twin(ours), plain(theirs)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    for one, other in zip(twin.parameters(), plain.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-5)
