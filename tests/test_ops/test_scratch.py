from concurrent.futures import ThreadPoolExecutor

import torch

from mmtern.ops.scratch import scratch_like


def test_a_thread_gets_its_own_memory_again():
    like = torch.empty(4, 3, 2, 2)
    first = scratch_like(like, torch.float32)
    assert scratch_like(like[:2], torch.float32).data_ptr() == first.data_ptr()
    assert scratch_like(like, torch.float64).data_ptr() != first.data_ptr()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(scratch_like, like, torch.float32).result()
    assert other.data_ptr() != first.data_ptr()


def test_layout_and_size_are_the_ones_asked_for():
    for count in (4, 400):
        like = torch.empty(count, 3, 2,
                           2).to(memory_format=torch.channels_last).to(
                               torch.int8)
        memory = scratch_like(like, torch.float32)
        assert memory.shape == like.shape and memory.dtype == torch.float32
        assert memory.stride() == like.stride()
        assert torch.equal(memory.copy_(like), like.float())
