"""Sparse ternary codes, as the gaps between those that are not zero.

zstd spends at least a bit on a byte, and whole bits. Four codes to a byte
leave too little in it where nearly all are zero; a gap holds 3 bits and more.
Measured on independent codes with 70, 80, 90, 95 and 99 % zeros, bytes over
the entropy bound: four to a byte 1.009, 1.025, 1.172, 1.458, 1.810, as gaps
1.008, 1.010, 1.010, 1.012, 1.005, at 2 to 21 ms per million weights.
"""
from math import prod
from typing import NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from .compression import OVERHEAD, compress, decompress
from .errors import TernaryFileError

ESCAPE = 255
# Least share of zeros from which gaps are tried; see above.
SPARSE = 0.7
# Most weights a byte, so that a small file cannot ask for much memory.
MAX_WEIGHTS = 256


class Gaps(NamedTuple):
    """Sparse codes as stored.

    Attributes:
        gaps: Shape (bytes, ), uint8, maybe compressed: before each code that
            is not zero, and before the end, the number of zeros since the
            last such; 255 stands for so many zeros, and the next byte goes
            on.
        signs: Shape (bytes, ), uint8; a bit for each code that is not zero,
            the lowest of a byte first, 1 for -1.
        size: Bytes of ``gaps`` before the compression.
    """
    gaps: Tensor
    signs: Tensor
    size: int

    @property
    def nbytes(self) -> int:
        return len(self.gaps) + len(self.signs)


def shorter_gaps(codes: Tensor, size: int) -> Optional[Gaps]:
    """Ternary codes as gaps; None where those do not take less than ``size``
    bytes, or so few that :func:`decode_gaps` would not believe them."""
    if int((codes == 0).sum()) < SPARSE * codes.numel():
        return None
    gaps = encode_gaps(codes)
    shorter = gaps.nbytes + OVERHEAD < size
    return gaps if shorter and _fits(gaps, codes.numel()) else None


def encode_gaps(codes: Tensor) -> Gaps:
    """Code ternary values.

    Args:
        codes (Tensor): Values in {-1, 0, +1}, any shape, read in row-major
            order.
    """
    flat = codes.reshape(-1).cpu()
    places = flat.nonzero().squeeze(1)
    first, last = (places.new_tensor([x]) for x in (-1, len(flat)))
    zeros = places.diff(prepend=first, append=last) - 1
    ends = (zeros // ESCAPE + 1).cumsum(0)
    size = int(ends[-1])
    stream = torch.full((size, ), ESCAPE, dtype=torch.uint8, device='cpu')
    stream[ends - 1] = (zeros % ESCAPE).to(torch.uint8)
    signs = np.packbits((flat[places] < 0).numpy(), bitorder='little')
    return Gaps(compress(stream), torch.from_numpy(signs), size)


def decode_gaps(coded: Gaps, shape: Sequence[int]) -> Tensor:
    """Codes in {-1, 0, +1}, int8, shape (count, ).

    Raises:
        TernaryFileError: If bytes and shape do not fit together.
    """
    gaps, signs, size = coded
    count = prod(shape)
    for part in (gaps, signs):
        if part.dtype != torch.uint8 or part.dim() != 1:
            raise TernaryFileError('its codes are no bytes')
    if type(size) is not int or not 0 < size <= count + 1:
        raise TernaryFileError('its gaps do not fit the shape')
    if not _fits(coded, count):
        raise TernaryFileError(f'{coded.nbytes} bytes cannot hold {count} '
                               'weights')
    stream = decompress(gaps, size)
    ends = stream != ESCAPE
    places = (stream.long() + ends).cumsum(0)[ends] - 1
    kept = len(places) - 1
    bits = np.unpackbits(signs.numpy(), bitorder='little')
    if (stream[-1] == ESCAPE or int(places[-1]) != count
            or len(signs) != -(-kept // 8) or bits[kept:].any()):
        raise TernaryFileError('its gaps and signs do not fit the shape')
    codes = torch.zeros(count, dtype=torch.int8, device='cpu')
    negative = torch.from_numpy(bits[:kept]).to(torch.int8)
    codes[places[:-1]] = 1 - 2 * negative
    return codes


def _fits(gaps: Gaps, count: int) -> bool:
    return count <= MAX_WEIGHTS * gaps.nbytes
