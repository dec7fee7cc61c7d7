"""Weights as integers and one scale an output channel, and back."""
import math
from typing import NamedTuple, Sequence, Union

import torch
from torch import Tensor

from ..ops import pack_codes, packed_size, unpack_codes
from .compression import compress, decompress
from .errors import TernaryFileError
from .gaps import Gaps, decode_gaps, shorter_gaps

# Between a state-dict key and what is stored for it; no key holds a colon.
CODES, SCALE, PLANES = ':codes', ':scale', ':planes'
GAPS, SIGNS = ':gaps', ':signs'
INT8_MAX = 127


class CodedWeight(NamedTuple):
    """A weight as stored.

    Attributes:
        codes: Shape (bytes, ), uint8; packed or plain integers, maybe
            compressed.
        scale: Shape (C_out, ), float32.
    """
    codes: Tensor
    scale: Tensor


def encode_codes(codes: Tensor, encoding: str = 'zstd') -> Union[Tensor, Gaps]:
    """Ternary codes in as few bytes as the encoding allows.

    Args:
        codes (Tensor): Values in {-1, 0, +1}, any shape, read in row-major
            order.
        encoding (str): 'zstd' or '2bit'.

    Returns:
        Tensor | Gaps: Four codes a byte, maybe compressed, shape (bytes, ),
        uint8; of 'zstd' the gaps between those that are not zero where these
        take less. Both tell their ``nbytes``.
    """
    coded = compress(pack_codes(codes).cpu(), encoding)
    gaps = shorter_gaps(codes, coded.nbytes) if encoding == 'zstd' else None
    return coded if gaps is None else gaps


def decode_ternary(coded: CodedWeight, shape: Sequence[int]) -> Tensor:
    """Ternary values ``a t``, float32, shape (C_out, ...).

    Raises:
        TernaryFileError: If bytes, shape and scales do not fit together.
    """
    count = _check(coded, shape)
    packed = decompress(coded.codes, packed_size(count))
    try:
        codes = unpack_codes(packed, count)
    except ValueError as error:
        raise TernaryFileError(str(error)) from None
    return _scaled(codes, coded.scale, shape)


def decode_sparse(gaps: Gaps, scale: Tensor, shape: Sequence[int]) -> Tensor:
    """:func:`decode_ternary` of codes that are stored as gaps."""
    _check_scale(scale, shape)
    return _scaled(decode_gaps(gaps, shape), scale, shape)


def encode_int8(weight: Tensor, encoding: str) -> CodedWeight:
    """Round a float weight to 8 bits, symmetrically per output channel:
    ``scale = max|w| / 127``, codes ``round(w / scale)``.

    Args:
        weight (Tensor): Shape (C_out, ...), float32.
        encoding (str): 'zstd' compresses the codes, '2bit' does not.
    """
    rows = weight.detach().flatten(1).float().cpu()
    scale = rows.abs().amax(1, keepdim=True) / INT8_MAX
    codes = torch.where(scale > 0, rows / scale, 0.0).round_()
    codes = codes.clamp_(-INT8_MAX, INT8_MAX).to(torch.int8)
    data = compress(codes.flatten().view(torch.uint8), encoding)
    return CodedWeight(data, scale.flatten())


def decode_int8(coded: CodedWeight, shape: Sequence[int]) -> Tensor:
    """Inverse of :func:`encode_int8` but for the rounding; float32.

    Raises:
        TernaryFileError: If bytes, shape and scales do not fit together.
    """
    count = _check(coded, shape)
    codes = decompress(coded.codes, count)
    return _scaled(codes.view(torch.int8), coded.scale, shape)


def _check(coded: CodedWeight, shape: Sequence[int]) -> int:
    codes, scale = coded
    if codes.dtype != torch.uint8 or codes.dim() != 1:
        raise TernaryFileError('its codes are no bytes')
    _check_scale(scale, shape)
    return math.prod(shape)


def _check_scale(scale: Tensor, shape: Sequence[int]) -> None:
    if scale.dtype != torch.float32 or tuple(scale.shape) != (shape[0], ):
        raise TernaryFileError('its scales do not fit the shape')
    if not bool((scale.isfinite() & (scale >= 0)).all()):
        raise TernaryFileError('its scales are no finite magnitudes')


def _scaled(codes: Tensor, scale: Tensor, shape: Sequence[int]) -> Tensor:
    values = codes.view(len(scale), -1).float()
    return values.mul_(scale[:, None]).view(*shape)
