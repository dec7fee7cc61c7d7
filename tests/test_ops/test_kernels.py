"""The Triton kernels against PyTorch's own operations. Without a GPU, Triton
interprets them (see conftest.py)."""
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from mmtern.ops import (cosine_distance, max_threshold, mean_threshold,
                        project, rescale_gradient)
from ..test_layers.accelerator import DEVICE, go, own_way  # noqa: F401

pytest.importorskip('triton')


@pytest.fixture
def with_kernels():
    """A function that turns the kernels on."""
    go(())
    return partial(go, (DEVICE, ))


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
        (3 * cosine_distance([weight], projection)).backward()
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


@pytest.mark.parametrize(
    'weight', [
        rows(4, 64).double(),
        rows(4, 64)[:, :7],
        rows(4, 64)[:0],
    ],
    ids=['double', 'strided', 'empty'])
def test_what_the_kernels_do_not_take_goes_without(with_kernels, weight):
    expected = project(weight, mean_threshold)
    with_kernels()
    for one, other in zip(project(weight, mean_threshold), expected):
        assert torch.equal(one, other)


WITHOUT = """
import sys, warnings
sys.modules['triton'] = None
import torch
from mmtern.ops import fused, mean_threshold, project
fused.DEVICES = (sys.argv[1], )
weight = torch.ones(4, 64, device=sys.argv[1])
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter('always')
    for _ in range(2):
        projection = project(weight, mean_threshold)
assert projection.count.flatten().tolist() == [64] * 4
(warning, ) = said
print(warning.message)
"""


def test_a_triton_that_fails_is_done_without():
    done = subprocess.run([sys.executable, '-c', WITHOUT, DEVICE],
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert 'goes without its Triton kernels' in done.stdout


STARTS = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from mmtern.ops import kernels
from speed import stub

def told(start, fields):
    profilers, memory = (5, 6), fields.data_ptr()
    told = [x for i, x in enumerate(start) if i not in profilers]
    told = [x.data_ptr() if torch.is_tensor(x) else x for x in told]
    return ['fields' if x == memory else x for x in told]

record = []
stub.install(record)
memory = torch.empty(4 * 64 + 1)
for weight in (memory[:-1].view(4, 64), memory[1:].view(4, 64)):
    out, starts = torch.empty_like(weight), []
    for _ in range(3):
        fields = kernels.project_rows(weight, None, 0.7, out, 'norm', 0.25)
        starts.append(told(record[-1], fields))
    assert starts[0] == starts[1] == starts[2], starts
    assert {weight.data_ptr(), out.data_ptr(), 'fields', 0.25} < set(starts[0])
    print(len(kernels.COMPILED), stub.launches())
"""


def test_kept_kernels_start_as_triton_starts_them(compiled):
    """The second start of a kernel goes past Triton's look-up. Compiled for a
    GPU, by a driver that starts nothing."""
    tools = Path(__file__).parents[2] / 'tools'
    done = subprocess.run([sys.executable, '-c', STARTS,
                           str(tools)],
                          env=compiled,
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    # Unaligned memory is left to Triton, which compiles anew for it.
    assert done.stdout.split() == ['1', '3', '1', '6']
