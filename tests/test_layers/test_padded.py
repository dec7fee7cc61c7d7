"""Convs with TensorFlow's padding compute with ternary filters."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import Conv2dAdaptivePadding

from mmtern import Scope, convert
from tests.literal import literal_ternary


@pytest.mark.parametrize('options, sides', [
    (dict(), (1, 1, 1, 1)),
    (dict(stride=2), (1, 1, 0, 1)),
    (dict(groups=2, dilation=2, bias=False), (2, 2, 2, 2)),
])
@pytest.mark.parametrize('training', [True, False])
def test_forward_and_gradient(options, sides, training):
    torch.manual_seed(0)
    plain = Conv2dAdaptivePadding(4, 6, 3, **options).double()
    twin = copy.deepcopy(plain)
    convert(twin, Scope(stem=True))
    twin.train(training)
    x = torch.randn(2, 4, 8, 7).double()
    weight = literal_ternary(plain.weight.detach()).requires_grad_()
    out = twin(x)
    expected = F.conv2d(
        F.pad(x, sides),
        weight,
        plain.bias,
        plain.stride,
        dilation=plain.dilation,
        groups=plain.groups)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(
        twin.weight.grad, weight.grad, rtol=1e-5, atol=1e-5)
    assert list(twin.state_dict()) == list(plain.state_dict())
