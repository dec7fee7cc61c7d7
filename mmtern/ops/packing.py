"""Packing of ternary codes, four to a byte, and the entropy that bounds any
coding of them."""
import math

import torch
from torch import Tensor

CODES_PER_BYTE = 4
BITS_PER_CODE = 2


def packed_size(count: int) -> int:
    """Return the number of bytes of ``count`` packed codes."""
    return -(-count // CODES_PER_BYTE)


def pack_codes(codes: Tensor) -> Tensor:
    """Pack codes into bytes, two bits each.

    A code is a two's complement integer of two bits, the first of four in
    the lowest ones; the layout is that of ONNX's INT2::

        bit      7 6   5 4   3 2   1 0
               +-----+-----+-----+-----+       00 =  0
        byte j |c4j+3|c4j+2|c4j+1| c4j |       01 = +1
               +-----+-----+-----+-----+       11 = -1   (10 never occurs)

    Codes missing from the last byte are 0.

    Args:
        codes (Tensor): Any shape, read in row-major order; values in
            {-1, 0, +1}, any dtype.

    Returns:
        Tensor: Shape (ceil(n / 4), ), uint8.

    Raises:
        ValueError: If a value is none of the three.
    """
    flat = codes.reshape(-1).to(torch.int8)
    changed = flat != codes.reshape(-1)
    if bool((changed | (flat < -1) | (flat > 1)).any()):
        raise ValueError('codes must be -1, 0 or +1')
    padding = -len(flat) % CODES_PER_BYTE
    fields = torch.nn.functional.pad(flat,
                                     (0, padding)).view(torch.uint8).view(
                                         -1, CODES_PER_BYTE) & 3
    packed = fields[:, 0]
    for position in range(1, CODES_PER_BYTE):
        packed = packed | fields[:, position] << BITS_PER_CODE * position
    return packed


def unpack_codes(packed: Tensor, count: int) -> Tensor:
    """Unpack what :func:`pack_codes` returned.

    Args:
        packed (Tensor): Shape (ceil(count / 4), ), uint8.
        count (int): Number of codes.

    Returns:
        Tensor: Shape (count, ), int8, values in {-1, 0, +1}.

    Raises:
        ValueError: If the number of bytes does not fit, a code is the
            unused ``10``, or bits after the last code are set.
    """
    if packed.dtype != torch.uint8 or packed.dim() != 1:
        raise ValueError('packed codes must be a row of uint8, but got '
                         f'{packed.dtype} of shape {tuple(packed.shape)}')
    if len(packed) != packed_size(count):
        raise ValueError(f'{count} codes take {packed_size(count)} bytes, but '
                         f'got {len(packed)}')
    codes = packed.new_empty(len(packed), CODES_PER_BYTE, dtype=torch.int8)
    signed = packed.view(torch.int8)
    for position in range(CODES_PER_BYTE):
        # Left to the sign bit, then right again: int8 shifts copy the sign.
        left = 8 - BITS_PER_CODE * (position + 1)
        codes[:, position] = signed << left >> 8 - BITS_PER_CODE
    codes = codes.view(-1)
    if bool((codes < -1).any()):
        raise ValueError('packed codes hold the unused bit pattern 10')
    if bool(codes[count:].any()):
        raise ValueError('bits are set after the last packed code')
    return codes[:count]


def entropy(codes: Tensor) -> float:
    """Return the entropy of the codes' frequencies in bits a code: the least
    that coding them independently takes, in [0, log2(3)].

    Args:
        codes (Tensor): Values in {-1, 0, +1}, any shape; 0 bits if empty.
    """
    counts = torch.stack([(codes == code).sum() for code in (-1, 0, 1)])
    share = counts.double() / max(codes.numel(), 1)
    return float(torch.special.entr(share).sum()) / math.log(2)


def largest_entropy(zeros: float) -> float:
    """Return the largest entropy of codes with at least this share of zeros,
    in bits a code: log2(3) up to a third of zeros, and then less."""
    zeros = max(zeros, 1 / 3)
    sign = (1 - zeros) / 2
    return -sum(x * math.log2(x) for x in (sign, zeros, sign) if x > 0)
