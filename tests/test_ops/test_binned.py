"""The search in bins against the one by sorting."""
import pytest
import torch

from mmtern.ops import (binned_threshold, exact_threshold, project,
                        ternary_codes)

SHAPES = dict(
    gauss=torch.distributions.Normal(0.0, 1.0),
    laplace=torch.distributions.Laplace(0.0, 1.0),
    student=torch.distributions.StudentT(2.0))


def loss(rows, min_sparsity=0.0):
    """Cosine lost against the exact threshold, each row."""
    best = project(rows, exact_threshold(rows, min_sparsity)).cosine()
    found = project(rows, binned_threshold(rows, min_sparsity)).cosine()
    return best - found


@pytest.mark.parametrize('d', [64, 100, 288, 1152, 4608])
@pytest.mark.parametrize('name', SHAPES)
def test_within_a_thousandth_of_the_best(name, d):
    torch.manual_seed(0)
    rows = SHAPES[name].sample((200, d)) * 10**torch.randn(200, 1)
    assert loss(rows).max() < 1e-3


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize('sparsity', [0.3, 0.8, 0.95])
def test_keeps_the_share_of_zeros_up_to_a_bin(name, sparsity):
    torch.manual_seed(0)
    rows = SHAPES[name].sample((200, 1152))
    codes = [
        ternary_codes(rows, find(rows, sparsity))
        for find in (exact_threshold, binned_threshold)
    ]
    exact, binned = ((x == 0).float().mean(1) for x in codes)
    assert (binned - exact).abs().max() < 0.06
    assert (binned - exact).mean().abs() < 0.01
    assert loss(rows, sparsity).abs().max() < 0.02


def test_ternary_rows_are_found_exactly():
    torch.manual_seed(0)
    codes = torch.randint(-1, 2, (50, 300)).float()
    rows = codes * torch.rand(50, 1)
    assert torch.equal(ternary_codes(rows, binned_threshold(rows)), codes)


def test_an_outlier_does_not_hide_the_rest():
    """A threshold relative to the largest magnitude would."""
    rows = torch.randn(1, 4608)
    rows[0, 0] = 30.0
    assert float(loss(rows)) < 1e-3


def test_rows_without_weights_and_with_tiny_ones():
    rows = torch.stack([torch.zeros(128), torch.randn(128) * 1e-30])
    threshold = binned_threshold(rows)
    assert threshold.isfinite().all()
    assert float(project(rows, threshold).cosine()[0]) == 1
    assert float(loss(rows)[1]) < 1e-3
