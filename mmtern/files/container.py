"""The bytes of a packed file: safetensors, one JSON of metadata and a
checksum; and how any file is written so that its name never stands for half
of it."""
import hashlib
import json
import os
import os.path as osp
import re
from typing import Any, BinaryIO, Callable, Dict, Optional, Tuple

import safetensors
import safetensors.torch
from torch import Tensor

from .errors import TernaryFileError

# All metadata go under one safetensors key: the library writes several in
# random order, and equal detectors should give equal files.
METADATA_KEY = 'mmtern'
# Version 2 added the entries 'sparse'.
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
        metadata (dict): JSON types; ``checksum`` and ``version`` are added.
    """
    # The checksum comes first, where no other text can be taken for it.
    metadata = dict(checksum=_BLANK, version=FORMAT_VERSION, **metadata)
    data = safetensors.torch.save(tensors,
                                  {METADATA_KEY: json.dumps(metadata)})
    digest = hashlib.sha256(data).hexdigest()
    return data.replace(_BLANK.encode(), digest.encode(), 1)


def read_whole(file: BinaryIO) -> bytes:
    """Read a packed file; of any other file only the header is read, because
    other safetensors files may hold many gigabytes.

    Args:
        file (BinaryIO): Opened at its beginning.

    Raises:
        TernaryFileError: If it is no packed file of a known version.
    """
    first = file.read(8)
    size = int.from_bytes(first, 'little')
    if size <= _MAX_HEADER:
        first += file.read(size)
    _read_metadata(first)
    return first + file.read()


def from_bytes(data: bytes) -> Tuple[Dict[str, Any], Dict[str, Tensor]]:
    """Check the bytes that :func:`to_bytes` returned and take them apart.

    Returns:
        tuple: Metadata and tensors.

    Raises:
        TernaryFileError: If the bytes are anything else, or damaged.
    """
    metadata = _read_metadata(data)
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


def _read_metadata(data: bytes) -> Dict[str, Any]:
    """Return the metadata from a file's first bytes; the tensors are not
    looked at."""
    size = int.from_bytes(data[:8], 'little')
    if not 2 <= size <= min(_MAX_HEADER, len(data) - 8):
        raise TernaryFileError(
            'it is no safetensors file, or an incomplete one')
    metadata = _parse(data[8:8 + size]).get('__metadata__')
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        raise TernaryFileError('it is a safetensors file that was not written '
                               'by mmtern')
    metadata = _parse(metadata[METADATA_KEY])
    version = metadata.get('version')
    if version not in READ_VERSIONS or version is True:
        raise TernaryFileError(
            f'it has format version {version!r}, and this mmtern reads the '
            f'versions {READ_VERSIONS}')
    metadata.setdefault('sparse', {})
    return metadata


def _parse(text: Any) -> Dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        # Bad UTF-8 and bad JSON are ValueErrors.
        value = None
    if not isinstance(value, dict):
        raise TernaryFileError('its header is damaged')
    return value


def check_target(path: str, force: bool) -> None:
    """Refuse a target before any work is done for it.

    Raises:
        FileExistsError: If ``path`` exists and ``force`` is not set.
        FileNotFoundError: If its directory does not exist.
        IsADirectoryError: If ``path`` is a directory.
        PermissionError: If its directory cannot be written to.
    """
    folder = osp.dirname(osp.abspath(path))
    if not osp.isdir(folder):
        raise FileNotFoundError(f'folder {folder!r} does not exist')
    if osp.isdir(path):
        raise IsADirectoryError(f'{path!r} is a folder')
    if osp.exists(path) and not force:
        raise FileExistsError(f'{path!r} exists and is left as it is')
    if not os.access(folder, os.W_OK):
        raise PermissionError(f'folder {folder!r} cannot be written to')


def write_atomically(path: str,
                     data: bytes,
                     force: bool = False,
                     check: Optional[Callable[[str], None]] = None) -> None:
    """Write to a temporary name beside ``path``, flush to disk, rename.

    A process that is killed at any moment leaves the old file or none.

    Args:
        path (str): Target.
        data (bytes): Content of the file.
        force (bool): Replace an existing file.
        check (callable, optional): Called with the temporary name; if it
            raises, there is no new file.

    Raises:
        FileExistsError: If ``path`` exists and ``force`` is not set.
        FileNotFoundError: If its directory does not exist.
    """
    check_target(path, force)
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        with open(temporary, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        if osp.exists(temporary):
            os.remove(temporary)
    if os.name != 'posix':
        return
    # The new name is safe only once its directory is on disk, too.
    folder = os.open(osp.dirname(osp.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
