import math

import pytest
import torch

from mmtern.ops import entropy, largest_entropy


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


@pytest.mark.parametrize('zeros', [0.0, 0.2, 1 / 3, 0.5, 0.8])
def test_nothing_exceeds_the_largest_entropy(zeros):
    bound = largest_entropy(zeros)
    generator = torch.Generator().manual_seed(0)
    for share in torch.linspace(zeros, 1, 9):
        codes = torch.rand(1000, generator=generator).sign()
        codes[:int(1000 * share) + 1] = 0
        codes[::2] *= -1
        assert entropy(codes) <= bound
    signs = int(3000 * (1 - max(zeros, 1 / 3)) / 2)
    codes = torch.zeros(3000)
    codes[:signs], codes[-signs:] = 1, -1
    assert entropy(codes) == pytest.approx(bound, abs=3e-3)
