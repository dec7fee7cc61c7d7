"""The Triton kernels against PyTorch's own operations. Without a GPU, Triton
interprets them (see conftest.py)."""
import pytest
import torch

from mmtern.ops import (cosine_distance, fused, max_threshold, mean_threshold,
                        project, rescale_gradient)

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
pytest.importorskip('triton')


@pytest.fixture
def with_kernels(monkeypatch):
    """A function that turns the kernels on."""
    monkeypatch.setattr(fused, 'DEVICES', ())

    def turn_on():
        monkeypatch.setattr(fused, 'DEVICES', (DEVICE, ))
        assert fused.kernels_for(torch.ones(1, 1, device=DEVICE)) is not None

    return turn_on


def rows(*shape):
    """Filters of several magnitudes, one of zeros, one ternary."""
    weight = torch.randn(shape) * torch.logspace(-6, 3, shape[0])[:, None]
    weight[0] = 0
    weight[1] = weight[1].sign() * 0.3
    return weight.to(DEVICE)


SHAPES = [(3, 1), (4, 27), (5, 64), (3, 1500), (2, 4608)]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('rule', ['mean', 'max', 'given'])
@pytest.mark.parametrize('has_codes', [False, True])
def test_projection(with_kernels, shape, rule, has_codes):
    torch.manual_seed(0)
    weight = rows(*shape)
    threshold = dict(mean=mean_threshold, max=max_threshold).get(rule)
    if threshold is None:
        threshold = weight.abs().mean(1, keepdim=True)

    def projected():
        codes = torch.full_like(weight, 5, dtype=torch.int8)
        return project(weight, threshold, codes if has_codes else None), codes

    expected, codes = projected()
    with_kernels()
    actual, actual_codes = projected()
    torch.testing.assert_close(tuple(actual), tuple(expected))
    assert torch.equal(actual_codes, codes)
    assert has_codes == bool((codes != 5).any())


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('temperature', [0.0, 1e-40, 2.0, 50.0])
@pytest.mark.parametrize('floor', [0.0, 0.2, 1.0])
@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_gradient(with_kernels, shape, temperature, floor, normalize, dtype):
    torch.manual_seed(0)
    weight = rows(*shape)
    grad = torch.randn(shape).to(DEVICE, dtype)
    threshold = mean_threshold(weight)
    options = (temperature, floor, normalize)
    expected = rescale_gradient(grad, weight, threshold, *options)
    with_kernels()
    actual = rescale_gradient(grad, weight, threshold, *options)
    assert expected.isfinite().all()
    # At T = 50 few digits are left of 1 - s where s is nearly 1.
    torch.testing.assert_close(
        actual,
        expected,
        rtol=1e-5 if dtype == torch.float32 else 1e-3,
        atol=5e-5)


@pytest.mark.parametrize('shape', SHAPES)
def test_pull_of_the_regularizer(with_kernels, shape):
    torch.manual_seed(0)

    def pulled():
        weight = rows(*shape).requires_grad_()
        torch.manual_seed(0)
        projection = project(weight.detach(), mean_threshold)
        (3 * cosine_distance(weight, projection)).backward()
        return weight.grad

    expected = pulled()
    torch.manual_seed(0)
    with_kernels()
    torch.testing.assert_close(pulled(), expected, rtol=1e-4, atol=1e-6)


def test_a_nan_spoils_its_own_filter_alone(with_kernels):
    weight = rows(4, 64)
    weight[2, 7] = torch.nan
    with_kernels()
    scale = project(weight, mean_threshold).scale('norm')
    assert scale.isnan().flatten().tolist() == [False, False, True, False]


def test_what_the_kernels_do_not_take(with_kernels):
    with_kernels()
    weight = rows(4, 64)
    assert fused.kernels_for(weight.double()) is None
    assert fused.kernels_for(weight[:, :7]) is None
    assert fused.kernels_for(weight, weight[:, :7]) is None
    assert fused.kernels_for(weight[:0]) is None


def test_a_triton_that_fails_is_done_without(with_kernels, monkeypatch):
    with_kernels()
    from mmtern.ops import kernels

    def fail(*_):
        raise RuntimeError('no compiler')

    monkeypatch.setattr(kernels, 'project_rows', fail)
    fused.KERNELS.clear()
    try:
        with pytest.warns(UserWarning, match='no compiler'):
            projection = project(rows(4, 64), mean_threshold)
        assert projection.count.shape == (4, 1)
    finally:
        fused.KERNELS.clear()
