import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtern.ops import (entropy, largest_entropy, pack_codes, packed_size,
                        unpack_codes)

laws = settings(deadline=None, derandomize=True, database=None)


@laws
@given(st.lists(st.integers(-1, 1), max_size=70))
def test_unpacking_undoes_packing_for_any_length(values):
    codes = torch.tensor(values, dtype=torch.int8)
    packed = pack_codes(codes)
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_size(len(values)) == -(-len(values) // 4)
    assert torch.equal(unpack_codes(packed, len(values)), codes)


def test_layout_is_the_documented_one():
    # 11 00 01 11 | 00 00 11 01, first code in the lowest bits.
    packed = pack_codes(torch.tensor([-1., 1., 0., -1., 1., -1.]))
    assert packed.tolist() == [0b11000111, 0b00001101]


def test_layout_is_that_of_onnx_int2():
    onnx = pytest.importorskip('onnx')
    if not hasattr(onnx.TensorProto, 'INT2'):
        pytest.skip('onnx < 1.20 has no INT2')
    codes = torch.randint(-1, 2, (9, ))
    proto = onnx.TensorProto(
        data_type=onnx.TensorProto.INT2,
        dims=[9],
        raw_data=bytes(pack_codes(codes).tolist()))
    values = onnx.numpy_helper.to_array(proto)
    assert values.astype(int).tolist() == codes.tolist()


def test_shape_is_read_in_row_major_order():
    codes = torch.randint(-1, 2, (3, 5, 2))
    strided = codes.transpose(0, 2)
    assert torch.equal(
        unpack_codes(pack_codes(strided), 30),
        strided.reshape(-1).to(torch.int8))


def test_the_lowest_int8_is_refused():
    """It has no positive counterpart."""
    with pytest.raises(ValueError, match='-1, 0 or'):
        pack_codes(torch.tensor([1, -128], dtype=torch.int8))


@pytest.mark.parametrize('value', [2, -2, 0.5, float('nan'), 257])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match='-1, 0 or'):
        pack_codes(torch.tensor([0., value]))


@pytest.mark.parametrize('packed, count, message', [
    ([0b10], 1, 'unused'),
    ([0b0100], 1, 'after the last'),
    ([0, 0], 4, '1 bytes, but got 2'),
    ([], 1, '1 bytes, but got 0'),
])
def test_bad_bytes_are_refused(packed, count, message):
    packed = torch.tensor(packed, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        unpack_codes(packed, count)


def test_other_tensors_are_refused():
    with pytest.raises(ValueError, match='row of uint8'):
        unpack_codes(torch.zeros(4), 16)


@laws
@given(st.binary(min_size=1, max_size=40), st.integers(0, 3))
def test_unpacking_accepts_nothing_but_what_packing_makes(data, missing):
    packed = torch.tensor(list(data), dtype=torch.uint8)
    count = 4 * len(data) - missing
    try:
        codes = unpack_codes(packed, count)
    except ValueError:
        return
    assert torch.equal(pack_codes(codes), packed)


@pytest.mark.parametrize('codes, bits', [
    ([-1, 0, 1], math.log2(3)),
    ([0, 0, 1, 1], 1.0),
    ([1, 0, -1, 0], 1.5),
    ([0, 0, 0], 0.0),
    ([], 0.0),
])
def test_entropy_of_small_cases(codes, bits):
    codes = torch.tensor(codes, dtype=torch.int8)
    assert entropy(codes) == pytest.approx(bits)
    assert entropy(codes.view(-1, 1)) == entropy(codes)


@pytest.mark.parametrize('zeros', [0.0, 0.2, 1 / 3, 0.5, 0.8])
def test_nothing_exceeds_the_largest_entropy(zeros):
    bound = largest_entropy(zeros)
    generator = torch.Generator().manual_seed(0)
    for share in torch.linspace(zeros, 1, 9):
        codes = torch.rand(1000, generator=generator).sign()
        codes[:int(1000 * share) + 1] = 0
        codes[::2] *= -1
        assert entropy(codes) <= bound
    signs = int(3000 * (1 - max(zeros, 1 / 3)) / 2)
    codes = torch.zeros(3000)
    codes[:signs], codes[-signs:] = 1, -1
    assert entropy(codes) == pytest.approx(bound, abs=3e-3)
