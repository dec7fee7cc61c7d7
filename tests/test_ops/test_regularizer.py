import pytest
import torch

from mmtern.ops import (Projection, cosine_distance, exact_threshold, project,
                        ternary_codes)
from .rows import ROWS


def projected(rows):
    return project(rows.detach(), exact_threshold(rows.detach()))


def regularize(rows):
    return cosine_distance([rows], projected(rows))


@pytest.mark.parametrize('name', ['gaussian', 'laplace', 'student_t2'])
def test_value_and_gradient_against_autograd_in_float64(name):
    rows = ROWS[name].clone().requires_grad_()
    loss = regularize(rows)
    loss.backward()
    literal = ROWS[name].double().requires_grad_()
    t = ternary_codes(ROWS[name], exact_threshold(ROWS[name])).double()
    expected = sum(1 - torch.dot(w, v) / (w.norm() * v.norm())
                   for w, v in zip(literal, t))
    expected.backward()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(
        rows.grad.double(), literal.grad, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize('name', ROWS)
def test_range_and_tangent_gradient(name):
    rows = ROWS[name].clone().requires_grad_()
    loss = regularize(rows)
    loss.backward()
    assert -1e-6 <= float(loss) <= len(rows)
    assert torch.isfinite(rows.grad).all()
    radial = (rows.grad * rows).sum(1).abs()
    # <g, w> has the size of a cosine, whatever the weights' scale.
    assert radial.max() < 1e-5


def test_zero_on_ternary_rows():
    rows = torch.tensor([[0.5, -0.5, 0, 0.5], [0, 0, 0, -3.0], [0, 0, 0, 0]])
    rows.requires_grad_()
    loss = regularize(rows)
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert rows.grad.abs().max() < 1e-6


def test_a_step_down_the_gradient_turns_towards_ternary():
    rows = ROWS['laplace'].clone().requires_grad_()
    before = regularize(rows)
    before.backward()
    with torch.no_grad():
        rows -= rows.norm(dim=1, keepdim=True).square() * 0.1 * rows.grad
    assert regularize(rows) < before


def test_weights_together_get_what_each_gets_alone():
    torch.manual_seed(0)
    weights = [
        torch.randn(shape, requires_grad=True)
        for shape in [(3, 20), (4, 2, 3, 3), (2, 5)]
    ]
    alone = [regularize(w.flatten(1)) for w in weights]
    sum(alone).backward()
    expected = [w.grad for w in weights]
    for w in weights:
        w.grad = None
    weights[1].data = weights[1].to(memory_format=torch.channels_last)
    projections = [projected(w.flatten(1)) for w in weights]
    together = cosine_distance(weights,
                               Projection(*map(torch.cat, zip(*projections))))
    together.backward()
    torch.testing.assert_close(together, sum(alone))
    torch.testing.assert_close([w.grad for w in weights], expected)
