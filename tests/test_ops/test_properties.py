"""Laws of the ternary maths over random shapes, spreads and dtypes."""
import functools
import itertools
import math

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmtern import TernConv2d
from mmtern.ops import (cosine_distance, exact_threshold, project,
                        rescale_factor, ternary_codes)

# Derandomized: a push must not fail on an example nobody can find again.
laws = settings(
    max_examples=60, deadline=None, derandomize=True, database=None)
EPS = torch.finfo(torch.float32).eps


@st.composite
def rows(draw, max_rows=8, max_d=200):
    """Filters (C_out, d): Gaussian raised to a power (flat to heavy-tailed),
    some weights zero, over 20 orders of magnitude."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(1, max_rows)), draw(st.integers(1, max_d)))
    normal = torch.randn(shape, generator=generator)
    weight = normal.sign() * normal.abs()**draw(st.sampled_from([0, 1, 3]))
    holes = torch.rand(
        shape,
        generator=generator) < draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    return weight.masked_fill(holes, 0) * 10.0**draw(st.integers(-10, 10))


sparsities = st.sampled_from([0.0, 0.3, 0.5, 0.9])


@functools.lru_cache(None)
def every_ternary(d):
    vectors = torch.tensor(
        list(itertools.product((-1., 0., 1.), repeat=d)), dtype=torch.float64)
    return vectors[vectors.abs().sum(1) > 0]


@laws
@given(rows(), sparsities)
def test_codes_are_ternary_and_agree_in_sign(weight, min_sparsity):
    codes = ternary_codes(weight, exact_threshold(weight, min_sparsity))
    assert set(codes.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert (codes * weight >= 0).all()
    assert (codes[weight == 0] == 0).all()
    alive = weight.abs().amax(1) > 0
    assert codes[alive].abs().amax(1).eq(1).all()
    # Kept weights are the largest ones.
    low = weight.abs().masked_fill(codes == 0, math.inf).amin(1)
    high = weight.abs().masked_fill(codes != 0, 0).amax(1)
    assert (low > high)[alive].all()


@laws
@given(rows(), sparsities, st.integers(-20, 20))
def test_positive_scaling_keeps_the_direction(weight, min_sparsity, power):
    codes = ternary_codes(weight, exact_threshold(weight, min_sparsity))
    scaled = weight * 2.0**power
    # Powers of two are exact, so are the codes.
    assert torch.equal(
        codes, ternary_codes(scaled, exact_threshold(scaled, min_sparsity)))


@laws
@given(rows(), sparsities, st.floats(1e-3, 1e3))
def test_any_positive_scaling_keeps_the_cosine(weight, min_sparsity, factor):
    cosine = [
        project(w, exact_threshold(w, min_sparsity)).cosine()
        for w in (weight, weight * factor)
    ]
    # Rounding may swap two counts that are equally good, nothing more.
    torch.testing.assert_close(*cosine, rtol=1e-5, atol=1e-6)


@laws
@given(rows(), sparsities, st.integers(0, 2**31))
def test_permutation_and_sign_flip_are_followed(weight, min_sparsity, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(weight.shape[1], generator=generator)
    flip = torch.randint(2, weight.shape, generator=generator) * 2.0 - 1
    codes = ternary_codes(weight, exact_threshold(weight, min_sparsity))
    other = (weight * flip)[:, order]
    threshold = exact_threshold(other, min_sparsity)
    assert torch.equal((codes * flip)[:, order],
                       ternary_codes(other, threshold))


@laws
@given(rows(max_rows=3, max_d=10))
def test_no_ternary_vector_is_nearer(weight):
    assume((weight.abs().amax(1) > 0).all())
    weight = weight.double()
    codes = ternary_codes(weight, exact_threshold(weight))
    every = every_ternary(weight.shape[1])
    unit = weight / weight.norm(dim=1, keepdim=True)
    best = (every @ unit.T / every.norm(dim=1, keepdim=True)).amax(0)
    mine = (codes * unit).sum(1) / codes.norm(dim=1)
    assert (mine >= best - 1e-12).all()


@laws
@given(rows(), sparsities)
def test_scales_keep_the_norm_or_the_least_squares(weight, min_sparsity):
    projection = project(weight, exact_threshold(weight, min_sparsity))
    codes = ternary_codes(weight, projection.threshold).double()
    exact = weight.double()
    norm = (projection.scale('norm') * codes).norm(dim=1)
    torch.testing.assert_close(norm, exact.norm(dim=1), rtol=1e-5, atol=0)
    lsq = projection.scale('lsq')
    residual = exact - lsq * codes
    assert ((residual * codes).sum(1).abs() <= 1e-5 * exact.abs().sum(1)).all()


@laws
@given(rows())
def test_regularizer_is_bounded_and_turns_only(weight):
    weight = weight.requires_grad_()
    projection = project(weight.detach(), exact_threshold(weight.detach()))
    value = cosine_distance([weight], projection)
    assert 0 <= value <= len(weight)
    value.backward()
    assert weight.grad.isfinite().all()
    exact, grad = weight.detach().double(), weight.grad.double()
    # <w, dR/dw> has no unit: it is the change of R under scaling.
    assert ((exact * grad).sum(1).abs() <= 1e-5).all()


@laws
@given(rows(), sparsities)
def test_regularizer_is_zero_on_ternary_rows(weight, min_sparsity):
    projection = project(weight, exact_threshold(weight, min_sparsity))
    ternary = ternary_codes(weight, projection.threshold)
    ternary = (ternary * projection.scale('norm')).requires_grad_()
    again = project(ternary.detach(), exact_threshold(ternary.detach()))
    value = cosine_distance([ternary], again)
    # Zero up to the rounding of the norm.
    assert value <= 4 * EPS * len(weight)
    value.backward()
    turning = ternary.grad.norm(dim=1) * ternary.detach().norm(dim=1)
    assert (turning <= 1e-5).all()


@laws
@given(rows(), st.floats(0, 20), st.floats(0, 1))
def test_gradient_factor_lies_between_floor_and_one(weight, temperature,
                                                    floor):
    threshold = exact_threshold(weight)
    factor = rescale_factor(weight, threshold, temperature, floor, False)
    if factor is None:
        assert temperature == 0 or floor == 1
        return
    assert factor.shape == weight.shape
    assert (factor >= floor - 4 * EPS).all()
    assert (factor <= 1 + 4 * EPS).all()


dtypes = st.sampled_from(
    [torch.float32, torch.float64, torch.bfloat16, torch.float16])


@laws
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3),
    st.sampled_from([1, 2, 3]), st.integers(1, 2), st.integers(1, 2),
    sparsities, dtypes, st.booleans())
def test_layers_hold_three_values_a_filter(groups, c_in, c_out, kernel,
                                           dilation, stride, min_sparsity,
                                           dtype, bias):
    torch.manual_seed(0)
    conv = TernConv2d(
        groups * c_in,
        groups * c_out,
        kernel,
        stride=stride,
        dilation=dilation,
        groups=groups,
        bias=bias,
        ternary=dict(min_sparsity=min_sparsity)).to(dtype)
    weight = conv.ternary_weight
    assert weight.dtype == dtype and weight.shape == conv.weight.shape
    for latent, row in zip(conv.weight.flatten(1), weight.flatten(1)):
        assert len(row[row != 0].abs().unique()) == 1
        assert (row * latent >= 0).all()
    out = conv(torch.randn(1, groups * c_in, 8, 8, dtype=dtype))
    assert out.dtype == dtype
    out.float().square().mean().backward()
    assert conv.weight.grad.shape == conv.weight.shape
    assert conv.weight.grad.isfinite().all()
