"""Weights to bytes and back, without a file."""
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtern.files import TernaryFileError
from mmtern.files.coding import (CodedWeight, decode_int8, decode_sparse,
                                 decode_ternary, encode_codes, encode_int8)
from mmtern.files.compression import MAX_RATIO, compress, decompress
from mmtern.files.gaps import (MAX_WEIGHTS, Gaps, decode_gaps, encode_gaps,
                               shorter_gaps)
from mmtern.files.planes import decode_planes, encode_planes
from mmtern.ops import entropy, pack_codes

laws = settings(
    max_examples=40, deadline=None, derandomize=True, database=None)


@laws
@given(st.integers(1, 9), st.integers(1, 3000), st.sampled_from([.1, .5, .97]))
def test_coded_ternary_weights(rows, d, kept):
    codes = (torch.rand(rows, d) < kept) * torch.randint(0, 2, (rows, d))
    codes = codes - ((torch.rand(rows, d) < kept) & (codes == 0)).long()
    scale = torch.rand(rows)
    for encoding in ('zstd', '2bit'):
        coded = encode_codes(codes, encoding)
        if isinstance(coded, Gaps):
            assert encoding == 'zstd'
            values = decode_sparse(coded, scale, [rows, d])
        else:
            values = decode_ternary(CodedWeight(coded, scale), [rows, d])
        assert torch.equal(values, codes * scale[:, None])


@laws
@given(
    st.integers(1, 9), st.integers(1, 3000), st.sampled_from([.002, .05, .3]))
def test_gaps_are_lossless(rows, d, kept):
    codes = (torch.rand(rows, d) < kept) * torch.randint(-1, 2, (rows, d))
    codes[0, :] = 0
    codes[-1, -1] = -1
    gaps = encode_gaps(codes)
    if d * rows > MAX_WEIGHTS * gaps.nbytes:
        with pytest.raises(TernaryFileError, match='cannot hold'):
            decode_gaps(gaps, [rows, d])
        return
    assert torch.equal(decode_gaps(gaps, [rows, d]), codes.flatten())


@pytest.mark.parametrize('zeros', [0.85, 0.9, 0.97, 0.99])
def test_sparse_codes_come_near_their_entropy(zeros):
    torch.manual_seed(0)
    codes = torch.randint(0, 2, (1_000_000, )) * 2 - 1
    codes[torch.rand(len(codes)) < zeros] = 0
    packed = compress(pack_codes(codes))
    gaps = encode_codes(codes)
    bound = entropy(codes) * len(codes) / 8
    assert isinstance(gaps, Gaps)
    assert bound < gaps.nbytes < 1.02 * bound < 1.02 * len(packed)
    assert shorter_gaps(codes, gaps.nbytes) is None


@pytest.mark.parametrize('zeros', [0.0, 0.6])
def test_other_codes_are_not_gaps(zeros):
    codes = torch.ones(100_000)
    codes[torch.rand(len(codes)) < zeros] = 0
    assert shorter_gaps(codes, 25_000) is None
    assert isinstance(encode_codes(codes), torch.Tensor)


@laws
@given(st.integers(1, 5), st.integers(1, 500))
def test_coded_int8_weights(rows, d):
    weight = torch.randn(rows, d)
    weight[0] = 0
    again = decode_int8(encode_int8(weight, 'zstd'), [rows, d])
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((again - weight).abs() <= 0.5001 * step).all()


@laws
@given(
    st.integers(1, 6000),
    st.sampled_from(
        [torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_planes_are_lossless(count, dtype):
    tensor = torch.randn(count).to(dtype)
    tensor[0] = float('nan')
    planes = encode_planes(tensor)
    if planes is None:
        return
    assert len(planes.data) < count * tensor.element_size()
    again = decode_planes(planes, [count])
    assert again.dtype == dtype
    assert torch.equal(again.view(torch.uint8), tensor.view(torch.uint8))


def test_planes_shorten_trained_weights():
    weight = torch.randn(64, 576)
    assert len(encode_planes(weight).data) < 0.92 * 4 * weight.numel()
    assert len(encode_planes(weight.half()).data) < 0.85 * 2 * weight.numel()


@laws
@given(st.binary(max_size=400))
def test_compression_round_trip(data):
    stream = torch.tensor(list(data), dtype=torch.uint8)
    again = decompress(compress(stream), len(data))
    assert again.dtype == torch.uint8
    assert again.tolist() == list(data)


def test_what_would_look_like_a_bomb_is_not_compressed():
    zeros = torch.zeros(10000, dtype=torch.uint8)
    assert torch.equal(compress(zeros), zeros)
    noise = torch.tensor(list(os.urandom(40)), dtype=torch.uint8)
    frame = compress(torch.cat([zeros[:160], noise]))
    assert 200 <= MAX_RATIO * len(frame)
