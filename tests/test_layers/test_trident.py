"""TridentNet's branches share ternary filters."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.backbones.trident_resnet import TridentConv

from mmtern import Scope, convert, freeze
from tests.literal import literal_ternary


@pytest.mark.parametrize('training, branch, used', [
    (True, 1, [1, 2, 3]),
    (False, -1, [1, 2, 3]),
    (False, 1, [2]),
])
def test_forward_and_gradient(training, branch, used):
    torch.manual_seed(0)
    plain = TridentConv(
        4, 6, 3, trident_dilations=(1, 2, 3), test_branch_idx=branch).double()
    torch.nn.init.normal_(plain.weight)
    twin = copy.deepcopy(plain)
    convert(twin, Scope(stem=True))
    twin.train(training)
    inputs = [torch.randn(2, 4, 7, 6).double() for _ in used]
    weight = literal_ternary(plain.weight.detach()).requires_grad_()
    expected = [
        F.conv2d(x, weight, padding=d, dilation=d)
        for x, d in zip(inputs, used)
    ]
    outs = twin(inputs)
    assert len(outs) == len(used)
    for out, other in zip(outs, expected):
        torch.testing.assert_close(out, other, rtol=1e-5, atol=1e-5)
    sum((out**2).sum() for out in outs).backward()
    sum((out**2).sum() for out in expected).backward()
    torch.testing.assert_close(
        twin.weight.grad, weight.grad, rtol=1e-4, atol=1e-4)
    assert list(twin.state_dict()) == list(plain.state_dict())
    frozen = freeze(twin)
    given = inputs if branch == -1 else inputs[:1]
    with torch.no_grad():
        for out, other in zip(frozen(given), twin.eval()(given)):
            assert torch.equal(out, other)
