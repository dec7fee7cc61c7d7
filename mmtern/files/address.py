"""Packed files by their names: which names are theirs, and the file behind an
address."""
import hashlib
import os
import os.path as osp
import re
from http.client import HTTPException
from urllib.parse import urlsplit

import torch

from .container import from_bytes, read_whole
from .errors import TernaryFileError

# Addresses of packed files, with or without a query, as storage services sign
# their links.
URL = r'https?://[^?#]*\.safetensors([?#].*)?$'


def names_packed(path: str) -> bool:
    """Return whether a path or an address is that of a packed file."""
    return path.endswith('.safetensors') or re.match(URL, path) is not None


def local_copy(path: str) -> str:
    """Return the name of a file on disk: ``path`` itself, or a copy of the
    file at this address.

    The copy stays in torch's hub folder, where mmengine keeps checkpoints,
    and is used the next time; delete it where the address holds a new file.
    Its name has a hash of the address, for addresses often end alike. What
    arrives incomplete or is no packed file is not kept.

    Raises:
        TernaryFileError: If a packed file cannot be fetched from there.
    """
    if not re.match(URL, path):
        return path
    name = osp.splitext(osp.basename(urlsplit(path).path))[0]
    digest = hashlib.sha256(path.encode()).hexdigest()[:12]
    folder = osp.join(torch.hub.get_dir(), 'checkpoints')
    copy = osp.join(folder, f'{name}-{digest}.safetensors')
    if osp.isfile(copy):
        return copy
    os.makedirs(folder, exist_ok=True)
    # Several processes may fetch at a time.
    part = f'{copy}.{os.getpid()}.part'
    try:
        torch.hub.download_url_to_file(path, part)
        with open(part, 'rb') as file:
            from_bytes(read_whole(file))
        os.replace(part, copy)
    except (OSError, HTTPException, TernaryFileError) as error:
        raise TernaryFileError(f'cannot fetch {path!r}: {error}') from None
    finally:
        if osp.exists(part):
            os.remove(part)
    return copy
