import math

import pytest
import torch

from mmtern.ops import (exact_threshold, learned_scale, mean_threshold,
                        project, rescale_factor, soft_ternary,
                        soft_ternary_slope, straight_through, ternary_codes)
from .rows import ROWS


def bump_derivative(w, delta, temperature):
    """Autograd's derivative of the soft ternary's step on w's own side,
    divided by its peak, in float64."""
    u = w.abs().double().requires_grad_()
    step = torch.sigmoid(temperature * (u / delta.double() - 1))
    slope, = torch.autograd.grad(step.sum(), u)
    return slope / (temperature / (4 * delta.double()))


@pytest.mark.parametrize('name', ['gaussian', 'laplace', 'student_t2'])
@pytest.mark.parametrize('temperature', [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize('floor', [0.0, 0.2])
def test_factor_is_the_sigmoid_derivative_up_to_its_peak(
        name, temperature, floor):
    rows = ROWS[name]
    delta = exact_threshold(rows)
    factor = rescale_factor(rows, delta, temperature, floor, False)
    expected = floor + (1 - floor) * bump_derivative(rows, delta, temperature)
    torch.testing.assert_close(factor.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ROWS)
def test_factor_is_bounded_and_finite(name):
    rows = ROWS[name]
    factor = rescale_factor(rows, exact_threshold(rows), 4.0, 0.2, False)
    assert factor.min() >= 0.2 - 1e-6 and factor.max() <= 1 + 1e-6


@pytest.mark.parametrize('name', ROWS)
def test_normalized_factor_has_mean_one(name):
    rows = ROWS[name]
    factor = rescale_factor(rows, exact_threshold(rows), 4.0, 0.2, True)
    torch.testing.assert_close(
        factor.mean(1), torch.ones(len(rows)), rtol=1e-4, atol=0)


def test_zero_temperature_is_plain_straight_through():
    rows = ROWS['gaussian']
    assert rescale_factor(rows, exact_threshold(rows), 0.0) is None
    assert rescale_factor(rows, exact_threshold(rows), 4.0, floor=1) is None


def test_soft_ternary_literal_and_slope():
    rows = ROWS['gaussian'][:2, :20].double().requires_grad_()
    delta = mean_threshold(rows).detach()
    scale = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    soft = soft_ternary(rows, delta, scale, 3.0)
    for j in range(2):
        for i in range(20):
            u = rows[j, i].item() / delta[j].item()
            expected = float(scale[j]) * (1 / (1 + math.exp(-3 *
                                                            (u - 1))) - 1 /
                                          (1 + math.exp(-3 * (-u - 1))))
            assert float(soft[j, i]) == pytest.approx(expected, abs=1e-12)
    slope, = torch.autograd.grad(soft.sum(), rows)
    torch.testing.assert_close(
        soft_ternary_slope(rows.detach(), delta, scale, 3.0), slope)


def test_soft_ternary_hardens():
    rows = ROWS['laplace']
    delta = mean_threshold(rows)
    scale = project(rows, delta).scale('lsq')
    soft = soft_ternary(rows, delta, scale, 1e7)
    hard = scale * ternary_codes(rows, delta)
    off = (soft - hard).abs() > 1e-4
    assert off.double().mean() < 1e-3


def test_straight_through_rescales_every_time():
    weight = torch.randn(3, 2, 2, 2, requires_grad=True)
    factor = torch.rand(3, 2, 2, 2)
    out = straight_through(weight, torch.ones_like(weight), factor.mul)
    assert (out == 1).all()
    for _ in range(2):  # gradient accumulation goes through one node twice
        (3 * out).sum().backward()
    torch.testing.assert_close(weight.grad, 6 * factor)


def test_ttq_gradients_are_its_equations():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(4, 9, generator=generator, requires_grad=True)
    scales = torch.rand(2, 4, generator=generator).add_(0.5).requires_grad_()
    codes = ternary_codes(weight.detach(), mean_threshold(weight.detach()))
    upstream = torch.randn(4, 9, generator=generator)
    out = learned_scale(weight, scales, codes)
    (out * upstream).sum().backward()
    for j in range(4):
        up = down = 0.0
        for i in range(9):
            t, g = float(codes[j, i]), float(upstream[j, i])
            positive, negative = float(scales[0, j]), float(scales[1, j])
            factor = {1.0: positive, 0.0: 1.0, -1.0: negative}[t]
            value = {1.0: positive, 0.0: 0.0, -1.0: -negative}[t]
            assert float(out[j, i]) == pytest.approx(value)
            assert float(weight.grad[j, i]) == pytest.approx(factor * g)
            up += g if t > 0 else 0.0
            down -= g if t < 0 else 0.0
        assert float(scales.grad[0, j]) == pytest.approx(up, abs=1e-6)
        assert float(scales.grad[1, j]) == pytest.approx(down, abs=1e-6)
