"""Ternary values stored in place of latent weights come out unchanged."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtern import TernarySettings
from mmtern.layers import Quantizer
from mmtern.ops import keep_ternary_scale


@pytest.mark.parametrize('threshold', ['exact', 'mean', 'max'])
@pytest.mark.parametrize('scale', ['norm', 'lsq'])
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**31),
    d=st.integers(1, 600),
    power=st.sampled_from([0, 1, 3]),
    exponent=st.integers(-15, 15),
    min_sparsity=st.sampled_from([0.0, 0.5, 0.8]))
def test_projecting_twice_changes_no_bit(threshold, scale, seed, d, power,
                                         exponent, min_sparsity):
    normal = torch.randn(8, d, generator=torch.Generator().manual_seed(seed))
    weight = normal.sign() * normal.abs()**power * 10.0**exponent
    weight[0] = 0
    method = TernarySettings(
        threshold=threshold, scale=scale, min_sparsity=min_sparsity)
    once = Quantizer(method)(weight, training=False)
    twice = Quantizer(method)(once, training=False)
    assert torch.equal(once, twice)
    # The scale and codes that a packed file stores give the same values.
    quantizer = Quantizer(method)
    assert torch.equal(quantizer.codes(weight) * quantizer.scale(weight), once)


def test_learned_scales_keep_their_codes():
    method = TernarySettings(threshold='max', scale='ttq')
    weight = torch.randn(16, 90)
    codes = Quantizer(method).codes(weight)
    stored = codes * Quantizer(method).scale(weight)
    assert torch.equal(Quantizer(method).codes(stored), codes)


def test_other_rows_keep_the_given_scale():
    weight = torch.tensor([[0.3, -0.3, 0.], [0.3, -0.2, 0.], [0., 0., 0.]])
    scale = keep_ternary_scale(weight, torch.full((3, 1), 7.))
    assert torch.equal(scale, torch.tensor([[0.3], [7.], [0.]]))
