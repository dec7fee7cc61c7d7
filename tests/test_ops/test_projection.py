import math

import pytest
import torch

from mmtern.ops import (exact_threshold, max_threshold, mean_threshold,
                        project, sparsity_threshold, ternary_codes)
from .rows import ROWS

names = pytest.mark.parametrize('name', ROWS)


def best_cosine(row, min_sparsity=0.0):
    """Literal transcription: try every count of largest magnitudes."""
    w = sorted((abs(float(v)) for v in row), reverse=True)
    norm = math.sqrt(sum(v * v for v in w))
    if norm == 0:
        return 1.0, 0
    limit = max(1, math.floor((1 - min_sparsity) * len(w) + 1e-6))
    best, total, count = -1.0, 0.0, 0
    for k, v in enumerate(w[:limit], start=1):
        total += v
        cosine = total / (math.sqrt(k) * norm)
        if cosine > best + 1e-12:
            best, count = cosine, k
    return best, count


@names
@pytest.mark.parametrize('min_sparsity', [0.0, 0.8])
def test_exact_direction_is_the_best_of_all_counts(name, min_sparsity):
    rows = ROWS[name]
    projection = project(rows, exact_threshold(rows, min_sparsity))
    for row, cosine, count in zip(rows, projection.cosine(), projection.count):
        expected, k = best_cosine(row, min_sparsity)
        if name == 'constant' and min_sparsity:
            # Equal magnitudes are all kept; see exact_threshold.
            assert float(count) == len(row)
            continue
        assert float(cosine) == pytest.approx(expected, abs=1e-6)
        if min_sparsity == 0:
            # Counts next to the best one differ by less than rounding.
            assert abs(float(count) - k) <= 1
        else:
            assert float(count) <= max(1, 0.2 * len(row) + 1e-6)


def test_exact_direction_beats_every_ternary_vector():
    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    cosine = project(rows, exact_threshold(rows)).cosine()[:, 0]
    every = torch.cartesian_prod(*[torch.tensor([-1., 0., 1.])] * 6)
    every = every[every.abs().sum(1) > 0]
    brute = torch.nn.functional.cosine_similarity(
        rows[:, None], every[None], dim=2).amax(1)
    torch.testing.assert_close(cosine, brute)


def test_threshold_is_half_the_mean_kept_magnitude():
    rows = ROWS['gaussian'].repeat(1, 8)
    threshold = exact_threshold(rows)
    half_mean = project(rows, threshold).scale('lsq') / 2
    torch.testing.assert_close(threshold, half_mean, rtol=0.02, atol=0)


def test_exact_threshold_separates_adjacent_floats():
    low = torch.tensor(1.0)
    high = torch.nextafter(low, torch.tensor(2.0))
    rows = torch.stack([high, high, low, low * 0])[None]
    codes = ternary_codes(rows, exact_threshold(rows, min_sparsity=0.5))
    assert codes.tolist() == [[1, 1, 0, 0]]


@names
@pytest.mark.parametrize('kind', ['norm', 'lsq'])
def test_scale_matches_its_definition(name, kind):
    rows = ROWS[name]
    threshold = exact_threshold(rows)
    projection = project(rows, threshold)
    codes = ternary_codes(rows, threshold).double()
    for w, t, a in zip(rows.double(), codes, projection.scale(kind)[:, 0]):
        if t.abs().sum() == 0:
            assert a == 0
        elif kind == 'norm':
            expected = w.norm() / t.norm()
            assert float(a) == pytest.approx(float(expected), rel=1e-5)
        else:
            expected = (w @ t) / (t @ t)
            assert float(a) == pytest.approx(float(expected), rel=1e-5)


def test_unknown_scale_names_the_accepted_ones():
    projection = project(ROWS['gaussian'], mean_threshold(ROWS['gaussian']))
    with pytest.raises(ValueError, match="'norm', 'lsq'.*'mean'"):
        projection.scale('mean')


@names
def test_zero_rows_give_zero_and_never_nan(name):
    projection = project(ROWS[name], exact_threshold(ROWS[name]))
    for field in (*projection, projection.cosine(), projection.scale('norm'),
                  projection.scale('lsq')):
        assert torch.isfinite(field).all()
    zero = ROWS[name].abs().sum(1) == 0
    assert (projection.count[zero] == 0).all()
    assert (projection.cosine()[zero] == 1).all()


def test_a_filter_with_nan_has_no_cosine():
    rows = torch.tensor([[1.0, float('nan'), 0.5], [1.0, 0.0, 0.0]])
    cosine = project(rows, mean_threshold(rows)).cosine()
    assert cosine[0].isnan() and cosine[1] == 1


def test_published_rules_of_thumb():
    rows = torch.tensor([[1.0, -2.0, 0.5, 0.5]])
    assert mean_threshold(rows).item() == pytest.approx(0.7)
    assert max_threshold(rows).item() == pytest.approx(0.1)
    assert ternary_codes(rows,
                         mean_threshold(rows)).tolist() == [[1, -1, 0, 0]]


@pytest.mark.parametrize('share', [0.0, 0.5, 0.8, 0.99])
def test_sparsity_threshold_leaves_that_many_zeros(share):
    rows = ROWS['laplace']
    codes = ternary_codes(rows, sparsity_threshold(rows, share))
    zeros = (codes == 0).double().mean(1)
    assert (zeros >= share - 1e-9).all()
    assert (zeros <= share + 1.5 / rows.shape[1]).all()


@pytest.mark.parametrize('value', [-0.1, 1.0])
def test_min_sparsity_out_of_range(value):
    with pytest.raises(ValueError, match=rf'min_sparsity.*{value}'):
        exact_threshold(ROWS['gaussian'], value)


@pytest.mark.parametrize('share', [0.0, 0.3, 0.8, 0.99])
@pytest.mark.parametrize('d', [1, 5, 64, 1000])
def test_sparsity_threshold_lies_between_the_kth_and_the_next(d, share):
    torch.manual_seed(0)
    rows = torch.randn(30, d)
    rows[::3] = rows[::3].round(decimals=1)  # equal magnitudes
    rows[7] = 0
    ordered = rows.abs().sort(1).values
    dropped = d - max(1, int((1 - share) * d + 1e-6))
    threshold = sparsity_threshold(rows, share)
    kept = ordered[:, dropped:dropped + 1]
    below = ordered[:, dropped - 1:dropped] if dropped else kept
    assert ((below <= threshold) & (threshold <= kept)).all()
    middle = (below + kept) / 2
    assert torch.equal(threshold, torch.where(middle > below, middle, kept))
