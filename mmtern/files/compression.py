"""zstd over packed codes, with an output no larger than expected."""
import numpy as np
import torch
import zstandard
from torch import Tensor

from ..checks import check_choice
from .errors import TernaryFileError

ENCODINGS = ('zstd', '2bit')
# Bytes that the longer entry of a compressed tensor costs in the metadata,
# generously.
OVERHEAD = 200
# Codes in a trained network hardly repeat: nearly all of the gain is in
# zstd's entropy coder (Huffman over the bytes), which the levels reach after
# a long search for repetitions. Measured on independent codes with 46, 60
# and 70 % zeros, four to a byte, bytes over the entropy bound and time per
# million weights on one core: level 19 1.005, 1.008, 1.010 at 140 to 930 ms;
# these 1.004, 1.007, 1.009 at 1 ms. Sparser ones are stored as gaps.
_PARAMETERS = dict(
    window_log=17, hash_log=6, min_match=7, strategy=zstandard.STRATEGY_FAST)
# Weights with as little information as 1/16 of their size do not occur (2
# bits become 1/8 bit at 98 % zeros); a limit keeps a small file from asking
# for much memory.
MAX_RATIO = 16


def compress(data: Tensor, encoding: str = 'zstd') -> Tensor:
    """One zstd frame that states its content's size, or ``data`` itself
    where that is shorter or the encoding is '2bit'.

    Args:
        data (Tensor): Shape (bytes, ), uint8, on the CPU.
        encoding (str): One of ``ENCODINGS``.

    Returns:
        Tensor: As ``data``.

    Raises:
        ValueError: For an unknown encoding.
    """
    check_choice('encoding', encoding, ENCODINGS)
    if encoding == '2bit':
        return data
    frame = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            write_content_size=1, **_PARAMETERS)).compress(data.numpy().data)
    useful = len(frame) < len(data) <= MAX_RATIO * len(frame)
    return _tensor(frame) if useful else data


def decompress(data: Tensor, size: int) -> Tensor:
    """Inverse of :func:`compress`; allocates at most ``size`` bytes, twice.

    Args:
        data (Tensor): Shape (bytes, ), uint8, on the CPU; exactly one frame,
            or as many bytes as ``size``.
        size (int): Size of the content.

    Returns:
        Tensor: Shape (size, ), uint8; ``data`` itself where it is no frame.

    Raises:
        TernaryFileError: If the content does not have this size, or the
            ratio of sizes is beyond ``MAX_RATIO``.
    """
    if len(data) == size:
        return data
    if size > MAX_RATIO * len(data):
        raise TernaryFileError(f'{len(data)} bytes cannot hold {size}')
    frame = data.numpy().data
    try:
        # The frame's own word is what the library allocates.
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
