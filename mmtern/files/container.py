"""The bytes of a packed file: safetensors, one JSON of metadata, a
checksum."""
import hashlib
import json
import re
from typing import Any, BinaryIO, Dict, Tuple

import safetensors
import safetensors.torch
from torch import Tensor

from .errors import TernaryFileError

# All metadata go under one safetensors key: the library writes several in
# random order, and equal detectors should give equal files.
METADATA_KEY = 'mmtern'
# 2 has a further kind of entries, 'sparse'.
FORMAT_VERSION = 2
READ_VERSIONS = (1, 2)
_BLANK = '0' * 64
# What safetensors itself accepts, 100 MB.
_MAX_HEADER = 100_000_000


def to_bytes(tensors: Dict[str, Tensor], metadata: Dict[str, Any]) -> bytes:
    """Serialize tensors and metadata.

    The checksum is the SHA-256 of the whole file with the checksum's own 64
    digits set to 0, so that it covers every other byte.

    Args:
        tensors (dict): Names and contiguous tensors.
        metadata (dict): What JSON can hold; ``checksum`` and ``version`` are
            added.
    """
    # The checksum comes first, where no other text can be taken for it.
    metadata = dict(checksum=_BLANK, version=FORMAT_VERSION, **metadata)
    data = safetensors.torch.save(tensors,
                                  {METADATA_KEY: json.dumps(metadata)})
    digest = hashlib.sha256(data).hexdigest()
    return data.replace(_BLANK.encode(), digest.encode(), 1)


def read_whole(file: BinaryIO) -> bytes:
    """Bytes of a file that begins as :func:`to_bytes` makes it.

    Of any other file the header is read and no more: others of this ending
    may hold many gigabytes.

    Args:
        file (BinaryIO): Opened at its beginning.

    Raises:
        TernaryFileError: If it is no packed file of this version.
    """
    first = file.read(8)
    size = int.from_bytes(first, 'little')
    if size <= _MAX_HEADER:
        first += file.read(size)
    read_metadata(first)
    return first + file.read()


def from_bytes(data: bytes) -> Tuple[Dict[str, Any], Dict[str, Tensor]]:
    """Check and read what :func:`to_bytes` made.

    Returns:
        tuple: Metadata and tensors.

    Raises:
        TernaryFileError: If the bytes are anything else, or damaged.
    """
    metadata = read_metadata(data)
    checksum = str(metadata.get('checksum'))
    if not re.fullmatch('[0-9a-f]{64}', checksum):
        raise TernaryFileError('it holds no checksum')
    blank = data.replace(checksum.encode(), _BLANK.encode(), 1)
    if hashlib.sha256(blank).hexdigest() != checksum:
        raise TernaryFileError('it is incomplete or damaged, for its checksum '
                               'does not match')
    try:
        return metadata, safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError,
            RuntimeError) as error:
        reason = str(error).split('\n')[0]
        raise TernaryFileError(
            f'its table of tensors is wrong ({reason})') from None


def read_metadata(data: bytes) -> Dict[str, Any]:
    """Metadata of a file from its first bytes, not checked against its
    tensors.

    Raises:
        TernaryFileError: If it is no packed file of this version.
    """
    size = int.from_bytes(data[:8], 'little')
    if not 2 <= size <= min(_MAX_HEADER, len(data) - 8):
        raise TernaryFileError(
            'it is no safetensors file, or an incomplete one')
    metadata = _parse(data[8:8 + size]).get('__metadata__')
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        raise TernaryFileError('it is a safetensors file that was not written '
                               'by mmtern')
    metadata = _parse(metadata[METADATA_KEY])
    _check_version(metadata.get('version'))
    metadata.setdefault('sparse', {})
    return metadata


def _check_version(version: Any) -> None:
    if version not in READ_VERSIONS or version is True:
        raise TernaryFileError(
            f'it has format version {version!r}, and this mmtern reads the '
            f'versions {READ_VERSIONS}')


def _parse(text: Any) -> Dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        # Bad UTF-8 and bad JSON are ValueErrors.
        value = None
    if not isinstance(value, dict):
        raise TernaryFileError('its header is damaged')
    return value
