import pytest
import torch

from mmtern.ops import (QuantizedWeight, cosine_distance, empty_as,
                        exact_threshold, in_layout_of, project, rescale_factor,
                        rescale_gradient, row_blocks, rows_of, ternary_codes)
from mmtern.ops.projection import BLOCK


@pytest.fixture(params=[1, 2, 100])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize('rows', [1, 7, 64])
@pytest.mark.parametrize('d', [1, BLOCK // 8, BLOCK // 3, 2 * BLOCK])
def test_slices_cover_each_row_once_and_fill_the_cache(rows, d, threads):
    slices = list(row_blocks(torch.zeros(1).expand(rows, d)))
    blocks = [range(rows)[s] for s in slices]
    assert [i for block in blocks for i in block] == list(range(rows))
    for block in blocks:
        assert len(block) == 1 or len(block) * d <= threads * BLOCK
    for block in blocks[:-1]:
        assert (len(block) + 1) * d > threads * BLOCK


def test_other_devices_take_all_rows_at_once():
    weight = torch.zeros(1 << 10, 1 << 12, device='meta')
    assert list(row_blocks(weight)) == [slice(0, 1 << 10)]


def results(weight, grad):
    """Everything that goes block by block."""
    codes = torch.empty_like(weight, dtype=torch.int8)
    projection = project(weight, exact_threshold(weight), codes)
    latent = weight.clone().requires_grad_()
    cosine_distance([latent], projection).backward()
    scale = projection.scale()
    rescaled = rescale_gradient(grad, weight, projection.threshold, 3.0)
    return [
        *projection, codes, latent.grad, rescaled,
        QuantizedWeight(codes, scale).values(torch.float32)
    ]


def test_results_of_a_filter_depend_on_no_other():
    generator = torch.Generator().manual_seed(0)
    weight, grad = torch.randn(2, 5, BLOCK // 2 + 1, generator=generator)
    alone = zip(*(results(weight[i:i + 1], grad[i:i + 1]) for i in range(5)))
    for one, other in zip(results(weight, grad), alone):
        torch.testing.assert_close(one, torch.cat(other))


def test_codes_are_written_where_asked():
    weight = torch.randn(5, 12)
    threshold = exact_threshold(weight)
    codes = torch.full_like(weight, 7, dtype=torch.int8)
    project(weight, threshold, codes)
    assert torch.equal(codes.float(), ternary_codes(weight, threshold))


@pytest.mark.parametrize('weight', [
    torch.randn(5, 3, 2, 4),
    torch.randn(5, 3, 2, 4).to(memory_format=torch.channels_last),
    torch.randn(5, 3, 1, 1).to(memory_format=torch.channels_last),
    torch.randn(5, 6),
])
def test_rows_are_views_that_keep_filters_and_the_order_of_memory(weight):
    weight = weight.clone()
    rows = rows_of(weight)
    assert rows.is_contiguous()
    for row, one in zip(rows, weight):
        assert torch.equal(row.sort().values, one.flatten().sort().values)
    other = empty_as(weight, torch.int8)
    rows_of(other).copy_(rows.sign())
    assert torch.equal(other.float(), weight.sign())
    assert rows_of(in_layout_of(weight, weight.contiguous())).equal(rows)
    rows.fill_(7)
    assert torch.equal(weight, torch.full_like(weight, 7))


def test_rows_of_another_layout_are_a_copy_in_the_usual_order():
    weight = torch.randn(4, 2, 3, 5).permute(1, 0, 3, 2)
    assert torch.equal(rows_of(weight), weight.reshape(2, -1))
    other = empty_as(weight)
    rows_of(other).copy_(rows_of(weight))
    assert torch.equal(other, weight)


@pytest.mark.parametrize('floor', [0.0, 0.3])
@pytest.mark.parametrize('layout',
                         [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('grad_layout',
                         [torch.contiguous_format, torch.channels_last])
def test_rescaled_gradient_is_the_factor_times_it(floor, layout, grad_layout):
    plain, given = torch.randn(2, 5, 4, 3, 3).unbind()
    weight = plain.to(memory_format=layout)
    grad = given.to(memory_format=grad_layout)
    threshold = exact_threshold(plain.flatten(1))
    factor = rescale_factor(plain.flatten(1), threshold, 2.0, floor)
    rescaled = rescale_gradient(grad, weight, threshold, 2.0, floor)
    torch.testing.assert_close(rescaled.flatten(1), factor * given.flatten(1))
    assert rescaled.is_contiguous(memory_format=layout)
    assert torch.equal(grad, given)  # others may hold it


@pytest.mark.parametrize('kwargs', [
    dict(temperature=0.0),
    dict(temperature=3.0, floor=1.0),
])
def test_plain_straight_through_leaves_the_gradient(kwargs):
    weight, grad = torch.randn(2, 5, 12).unbind()
    before = grad.clone()
    rescaled = rescale_gradient(grad, weight, exact_threshold(weight),
                                **kwargs)
    assert torch.equal(rescaled, before)
