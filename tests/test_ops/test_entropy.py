import math

import pytest
import torch

from mmtern.ops import entropy


@pytest.mark.parametrize('codes, bits', [
    ([-1, 0, 1], math.log2(3)),
    ([0, 0, 1, 1], 1.0),
    ([1, 0, -1, 0], 1.5),
    ([0, 0, 0], 0.0),
    ([], 0.0),
])
def test_entropy_of_small_cases(codes, bits):
    codes = torch.tensor(codes, dtype=torch.int8)
    assert entropy(codes) == pytest.approx(bits)
    assert entropy(codes.view(-1, 1)) == entropy(codes)
