"""Tensors to bytes and back, without a file."""
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtern.files import TernaryFileError
from mmtern.files.encode import (MAX_RATIO, MAX_WEIGHTS, compress, decode,
                                 decompress, encode_codes, encode_float,
                                 encode_int8)
from mmtern.ops import entropy, pack_codes

laws = settings(
    max_examples=40, deadline=None, derandomize=True, database=None)


def with_scale(encoded, scale):
    return encoded._replace(parts={':scale': scale, **encoded.parts})


@laws
@given(
    st.integers(1, 9), st.integers(1, 3000),
    st.sampled_from([.002, .05, .1, .5, .97]))
def test_ternary_codes_are_lossless(rows, d, nonzero):
    codes = (torch.rand(rows, d) < nonzero) * torch.randint(-1, 2, (rows, d))
    codes[0, :] = 0
    codes[-1, -1] = -1
    scale = torch.rand(rows)
    for encoding in ('zstd', '2bit'):
        encoded = with_scale(encode_codes(codes, encoding), scale)
        assert encoded.kind == 'ternary' or encoding == 'zstd'
        assert torch.equal(decode(encoded), codes * scale[:, None])


@pytest.mark.parametrize('zeros', [0.85, 0.9, 0.97, 0.99])
def test_sparse_codes_come_near_their_entropy(zeros):
    torch.manual_seed(0)
    codes = torch.randint(0, 2, (1, 1_000_000)) * 2 - 1
    codes[torch.rand(codes.shape) < zeros] = 0
    packed = compress(pack_codes(codes))
    runs = encode_codes(codes)
    bound = entropy(codes) * codes.numel() / 8
    assert runs.kind == 'sparse'
    assert bound < runs.nbytes < 1.02 * bound < 1.02 * len(packed)


@pytest.mark.parametrize('zeros', [0.0, 0.6])
def test_dense_codes_are_not_stored_as_zero_runs(zeros):
    codes = torch.ones(1, 100_000)
    codes[torch.rand(codes.shape) < zeros] = 0
    assert encode_codes(codes).kind == 'ternary'


@pytest.mark.parametrize('nonzero', [0.0, 1e-5, 1e-4, 1e-3])
def test_hardly_any_weight_is_lossless_too(nonzero):
    codes = (torch.rand(1, 1 << 20) < nonzero).float()
    encoded = with_scale(encode_codes(codes), torch.ones(1))
    assert torch.equal(decode(encoded), codes)


def test_few_bytes_do_not_stand_for_many_weights():
    codes = torch.zeros(1, 1 << 20)
    codes[torch.rand(codes.shape) < 0.02] = 1
    runs = with_scale(encode_codes(codes), torch.ones(1))
    assert runs.kind == 'sparse'
    runs.entry['shape'] = [1, MAX_WEIGHTS * runs.nbytes]
    with pytest.raises(TernaryFileError, match='cannot hold'):
        decode(runs)


@laws
@given(st.integers(1, 5), st.integers(1, 500))
def test_int8_weights_are_right_to_half_a_step(rows, d):
    weight = torch.randn(rows, d)
    weight[0] = 0
    step = weight.abs().amax(1, keepdim=True) / 127
    for encoding in ('zstd', '2bit'):
        again = decode(encode_int8(weight, encoding))
        assert ((again - weight).abs() <= 0.5001 * step).all()


@laws
@given(
    st.integers(1, 6000),
    st.sampled_from(
        [torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_floats_are_lossless(count, dtype):
    tensor = torch.randn(count).to(dtype)
    tensor[0] = float('nan')
    encoded = encode_float(tensor)
    if encoded is None:
        return
    assert encoded.nbytes < count * tensor.element_size()
    again = decode(encoded)
    assert again.dtype == dtype
    assert torch.equal(again.view(torch.uint8), tensor.view(torch.uint8))


def test_byte_shuffle_shortens_trained_weights():
    weight = torch.randn(64, 576)
    assert encode_float(weight).nbytes < 0.92 * 4 * weight.numel()
    assert encode_float(weight.half()).nbytes < 0.85 * 2 * weight.numel()


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
