"""Zeros spread over the layers of a model."""
import itertools
import math

import pytest
import torch

from mmtern.ops import allocate_zeros, exact_threshold, project


def cosine(zeros: float) -> float:
    """Of a Gaussian filter with that share of zeros, the largest kept."""
    threshold = torch.special.ndtri(torch.tensor((1 + zeros) / 2).double())
    inner = 2 * math.exp(-threshold**2 / 2) / math.sqrt(2 * math.pi)
    return inner / math.sqrt(1 - zeros)


@pytest.mark.parametrize('zeros', [0.46, 0.8, 0.95])
def test_the_curve_is_that_of_gaussian_filters(zeros):
    torch.manual_seed(0)
    filters = torch.randn(4, 250000)
    measured = project(filters, exact_threshold(filters, zeros)).cosine()
    assert measured.mean() == pytest.approx(cosine(zeros), abs=1e-3)


@pytest.mark.parametrize('share', [0.5, 0.8, 0.9])
def test_no_other_shares_keep_more_direction(share):
    sizes = [1000, 5000, 40000]
    shares = allocate_zeros(sizes, share)
    found = sum(math.log(cosine(zeros)) for zeros in shares)
    grid = [i / 200 for i in range(92, 200)]
    for first, second in itertools.product(grid, grid):
        need = share * sum(sizes) - first * sizes[0] - second * sizes[1]
        third = need / sizes[2]
        if 0.46 <= third < 1:
            other = sum(map(math.log, map(cosine, (first, second, third))))
            assert found > other - 5e-4


@pytest.mark.parametrize('share', [0.47, 0.8, 0.99, 0.9999])
def test_the_share_is_met_and_large_layers_have_more(share):
    sizes = [64, 36864, 9408, 2359296, 589824]
    shares = allocate_zeros(sizes, share)
    total = sum(map(math.prod, zip(shares, sizes))) / sum(sizes)
    assert share <= total < share + 1e-3 * (1 - share)
    ordered = [zeros for _, zeros in sorted(zip(sizes, shares))]
    assert ordered == sorted(shares) and 0.45 < ordered[0] < ordered[-1] < 1


def test_equal_layers_have_equal_shares():
    assert allocate_zeros([500] * 3, 0.8) == pytest.approx([0.8] * 3, abs=1e-3)
    # Below what the best direction has anyway there is nothing to choose.
    assert allocate_zeros([500, 90000], 0.3) == [0.3, 0.3]
    assert allocate_zeros([500, 90000], 0.0) == [0.0, 0.0]


@pytest.mark.parametrize('share', [1, -0.1, float('nan'), '0.8', True, None])
def test_wrong_shares(share):
    with pytest.raises(ValueError, match=r'model_sparsity.*\[0, 1\)'):
        allocate_zeros([100], share)
