"""Tensors in few bytes, and back.

An encoded tensor has a kind, an entry in the file's metadata and some parts,
which are tensors of the file named by the state dict's key and a suffix:

========  =====================  =======================  ====================
kind      entry                  parts                    coding
========  =====================  =======================  ====================
ternary   shape                  :codes, :scale           2 bits a weight, zstd
sparse    shape, size            :gaps, :signs, :scale    zero runs, zstd
int8      shape                  :codes, :scale           8 bits a weight, zstd
planes    shape, dtype, sizes    :planes                  byte shuffle, zstd
========  =====================  =======================  ====================
"""
import math
from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np
import torch
import zstandard
from torch import Tensor

from ..ops import pack_codes, packed_size, unpack_codes
from .errors import TernaryFileError

ENCODINGS = ('zstd', '2bit')
# Suffixes of the parts; no key of a state dict holds a colon. They and the
# names of the kinds belong to the format, and so they stay.
CODES, RUNS, SIGNS = ':codes', ':gaps', ':signs'
SCALE, SHUFFLED = ':scale', ':planes'
PARTS = dict(
    ternary=(CODES, SCALE),
    sparse=(RUNS, SIGNS, SCALE),
    int8=(CODES, SCALE),
    planes=(SHUFFLED, ))

INT8_MAX = 127
# The byte of a zero run that is continued in the next byte.
ESCAPE = 255
# Least share of zeros from which zero-run coding is tried. Measured on
# independent codes with 70, 80, 90, 95 and 99 % zeros, bytes over the entropy
# bound: four codes a byte under zstd, which spends whole bits and at least
# one on a byte, 1.009, 1.025, 1.172, 1.458, 1.810; zero runs 1.008, 1.010,
# 1.010, 1.012, 1.005, at 2 to 21 ms per million weights.
SPARSE = 0.7
# Most weights a byte of zero runs may stand for, so that a small file cannot
# ask for much memory.
MAX_WEIGHTS = 256
# Bytes that the longer entry of a compressed tensor costs in the metadata,
# generously.
OVERHEAD = 200
FLOATS = {
    'float16': torch.float16,
    'bfloat16': torch.bfloat16,
    'float32': torch.float32,
    'float64': torch.float64
}
# Codes in a trained network hardly repeat: nearly all of the gain is in
# zstd's entropy coder (Huffman over the bytes), which the levels reach after
# a long search for repetitions. Measured on independent codes with 46, 60
# and 70 % zeros, four to a byte, bytes over the entropy bound and time per
# million weights on one core: level 19 1.005, 1.008, 1.010 at 140 to 930 ms;
# these parameters 1.004, 1.007, 1.009 at 1 ms.
_ZSTD = dict(
    window_log=17, hash_log=6, min_match=7, strategy=zstandard.STRATEGY_FAST)
# Weights with as little information as 1/16 of their size do not occur (2
# bits become 1/8 bit at 98 % zeros); a limit keeps a small file from asking
# for much memory.
MAX_RATIO = 16


class Encoded(NamedTuple):
    """A tensor as a file stores it.

    Attributes:
        kind: One of the keys of :data:`PARTS`.
        entry: The tensor's entry in the metadata, made of JSON types.
        parts: The stored tensors by suffix. Scales have the shape (C_out, )
            and are float32; all other parts are bytes, shape (bytes, ),
            uint8.
    """
    kind: str
    entry: Any
    parts: Dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Number of bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())


def encode_codes(codes: Tensor, encoding: str = 'zstd') -> Encoded:
    """Encode ternary codes, four a byte or, where that is shorter, as zero
    runs.

    Args:
        codes (Tensor): Values in {-1, 0, +1}, shape (C_out, ...), read in
            row-major order.
        encoding (str): 'zstd' compresses the codes, '2bit' stores four a
            byte and nothing else.

    Returns:
        Encoded: Of kind 'ternary' or 'sparse', without scales yet.
    """
    packed = pack_codes(codes).cpu()
    if encoding == 'zstd':
        packed = compress(packed)
        if int((codes == 0).sum()) >= SPARSE * codes.numel():
            runs = _encode_zero_runs(codes)
            # decode refuses more weights a byte than these.
            legal = codes.numel() <= MAX_WEIGHTS * runs.nbytes
            if legal and runs.nbytes + OVERHEAD < packed.nbytes:
                return runs
    return Encoded('ternary', list(codes.shape), {CODES: packed})


def encode_int8(weight: Tensor, encoding: str = 'zstd') -> Encoded:
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
    data = codes.flatten().view(torch.uint8)
    if encoding == 'zstd':
        data = compress(data)
    parts = {CODES: data, SCALE: scale.flatten()}
    return Encoded('int8', list(weight.shape), parts)


def encode_float(tensor: Tensor) -> Optional[Encoded]:
    """Encode a float tensor without loss by byte shuffle and zstd.

    The bytes of a trained weight that hold its sign and exponent take few
    values, while those of the mantissa are noise. Stored apart, as HDF5's
    shuffle filter does it, the former are shortened by zstd (float16 by about
    19 %, float32 by 10 %); together nothing is.

    Args:
        tensor (Tensor): Any shape and dtype.

    Returns:
        Encoded or None: The planes one after the other, lowest byte of the
        (little-endian) numbers first, each compressed where that is shorter;
        None where the encoding saves nothing or the tensor holds no floats.
    """
    dtype = str(tensor.dtype).rpartition('.')[2]
    if dtype not in FLOATS or tensor.dim() == 0:
        return None
    data = tensor.detach().cpu().contiguous().view(torch.uint8)
    shuffled = data.view(-1, tensor.element_size()).T.contiguous()
    planes = [compress(plane) for plane in shuffled]
    sizes = [len(plane) for plane in planes]
    if sum(sizes) + OVERHEAD > tensor.nbytes:
        return None
    entry = dict(shape=list(tensor.shape), dtype=dtype, sizes=sizes)
    return Encoded('planes', entry, {SHUFFLED: torch.cat(planes)})


def decode(encoded: Encoded) -> Tensor:
    """Decode a tensor; nothing about it is believed before it is checked.

    Args:
        encoded (Encoded): As an ``encode`` function returned it, the scales
            of ternary codes included, or as a file claims it.

    Returns:
        Tensor: Ternary values ``a t`` or int8 codes times their scale,
        float32, or a float tensor, in the shape of the entry.

    Raises:
        TernaryFileError: If entry and parts do not fit together.
    """
    kind, entry, parts = encoded
    for suffix, part in parts.items():
        if suffix != SCALE and (part.dtype != torch.uint8 or part.dim() != 1):
            raise TernaryFileError(f'its {suffix[1:]} are no bytes')
    listed = kind in ('ternary', 'int8')
    if not listed and not isinstance(entry, dict):
        raise TernaryFileError('its entry is damaged')
    shape = entry if listed else entry.get('shape')
    _check_shape(shape, least_axes=1 if kind == 'planes' else 2)
    if kind == 'planes':
        return _decode_float(parts[SHUFFLED], entry, shape)
    scale, count = parts[SCALE], math.prod(shape)
    if scale.dtype != torch.float32 or tuple(scale.shape) != (shape[0], ):
        raise TernaryFileError('its scales do not fit the shape')
    if not bool((scale.isfinite() & (scale >= 0)).all()):
        raise TernaryFileError('its scales are no finite magnitudes')
    if kind == 'sparse':
        codes = _decode_zero_runs(encoded, count)
    elif kind == 'int8':
        codes = decompress(parts[CODES], count).view(torch.int8)
    else:
        packed = decompress(parts[CODES], packed_size(count))
        try:
            codes = unpack_codes(packed, count)
        except ValueError as error:
            raise TernaryFileError(str(error)) from None
    values = codes.view(len(scale), -1).float()
    return values.mul_(scale[:, None]).view(*shape)


def _encode_zero_runs(codes: Tensor) -> Encoded:
    """Encode sparse ternary codes by the lengths of their runs of zeros.

    ``:gaps`` holds, for each code that is not zero and for the end, the
    number of zeros before it; a byte of 255 adds so many zeros and continues
    in the next byte. ``:signs`` holds a bit for each code that is not zero, 1
    for -1, the lowest bit of a byte first. ``size`` is the number of bytes of
    the runs before their compression.
    """
    flat = codes.reshape(-1).cpu()
    places = flat.nonzero().squeeze(1)
    first, last = (places.new_tensor([x]) for x in (-1, len(flat)))
    zeros = places.diff(prepend=first, append=last) - 1
    ends = (zeros // ESCAPE + 1).cumsum(0)
    size = int(ends[-1])
    runs = torch.full((size, ), ESCAPE, dtype=torch.uint8, device='cpu')
    runs[ends - 1] = (zeros % ESCAPE).to(torch.uint8)
    signs = np.packbits((flat[places] < 0).numpy(), bitorder='little')
    parts = {RUNS: compress(runs), SIGNS: torch.from_numpy(signs)}
    return Encoded('sparse', dict(shape=list(codes.shape), size=size), parts)


def _decode_zero_runs(encoded: Encoded, count: int) -> Tensor:
    """Return the codes, shape (count, ), int8."""
    runs, signs = encoded.parts[RUNS], encoded.parts[SIGNS]
    size = encoded.entry.get('size')
    if type(size) is not int or not 0 < size <= count + 1:
        raise TernaryFileError('its zero runs do not fit the shape')
    stored = len(runs) + len(signs)
    if count > MAX_WEIGHTS * stored:
        raise TernaryFileError(f'{stored} bytes cannot hold {count} weights')
    runs = decompress(runs, size)
    ends = runs != ESCAPE
    places = (runs.long() + ends).cumsum(0)[ends] - 1
    nonzero = len(places) - 1
    bits = np.unpackbits(signs.numpy(), bitorder='little')
    if (runs[-1] == ESCAPE or int(places[-1]) != count
            or len(signs) != -(-nonzero // 8) or bits[nonzero:].any()):
        raise TernaryFileError('its zero runs and signs do not fit the shape')
    codes = torch.zeros(count, dtype=torch.int8, device='cpu')
    negative = torch.from_numpy(bits[:nonzero]).to(torch.int8)
    codes[places[:-1]] = 1 - 2 * negative
    return codes


def _decode_float(data: Tensor, entry: Dict[str, Any],
                  shape: Sequence[int]) -> Tensor:
    dtype, sizes = str(entry.get('dtype')), entry.get('sizes')
    if dtype not in FLOATS:
        raise TernaryFileError(f'it has the unknown dtype {dtype!r}')
    itemsize = torch.empty(0, dtype=FLOATS[dtype]).element_size()
    if not (isinstance(sizes, list) and len(sizes) == itemsize
            and all(type(size) is int and size >= 0
                    for size in sizes) and sum(sizes) == len(data)):
        raise TernaryFileError('its planes do not fit its dtype')
    count = math.prod(shape)
    planes = [decompress(plane, count) for plane in data.split(sizes)]
    unshuffled = torch.stack(planes, dim=1).contiguous()
    return unshuffled.view(-1).view(FLOATS[dtype]).view(*shape)


def _check_shape(shape: Any, least_axes: int) -> None:
    # Bounded before the product: a long list of huge numbers would take
    # forever to multiply.
    good = isinstance(shape, list) and least_axes <= len(shape) <= 8 and all(
        type(axis) is int and 0 < axis < 2**31 for axis in shape)
    if not good or math.prod(shape) >= 2**40:
        raise TernaryFileError('it has no proper shape')


def compress(data: Tensor) -> Tensor:
    """Compress bytes by zstd.

    Args:
        data (Tensor): Shape (bytes, ), uint8, on the CPU.

    Returns:
        Tensor: Shape (bytes, ), uint8: one zstd frame that states the size of
        its content, or ``data`` itself where the frame is no shorter, or so
        short that :func:`decompress` would refuse it.
    """
    frame = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            write_content_size=1, **_ZSTD)).compress(data.numpy().data)
    useful = len(frame) < len(data) <= MAX_RATIO * len(frame)
    return _tensor(frame) if useful else data


def decompress(data: Tensor, size: int) -> Tensor:
    """Return the content of what :func:`compress` returned; at most ``size``
    bytes are allocated, twice.

    Args:
        data (Tensor): Shape (bytes, ), uint8, on the CPU; exactly one frame,
            or as many bytes as ``size``.
        size (int): Number of bytes of the content.

    Returns:
        Tensor: Shape (size, ), uint8; ``data`` itself where it is no frame.

    Raises:
        TernaryFileError: If the content does not have this size, or the
            ratio of sizes is beyond :data:`MAX_RATIO`.
    """
    if len(data) == size:
        return data
    if size > MAX_RATIO * len(data):
        raise TernaryFileError(f'{len(data)} bytes cannot hold {size}')
    frame = data.numpy().data
    try:
        # The library allocates what the frame declares.
        declared = zstandard.frame_content_size(frame)
        if declared == size:
            return _tensor(zstandard.ZstdDecompressor().decompress(
                frame, allow_extra_data=False))
    except zstandard.ZstdError:
        raise TernaryFileError('a zstd frame is damaged') from None
    raise TernaryFileError(
        f'a zstd frame declares {declared} bytes in place of {size}')


def _tensor(data: bytes) -> Tensor:
    # A copy: tensors are writable, bytes are not.
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
