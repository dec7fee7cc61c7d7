"""Writing a file so that its name never stands for half of it."""
import os
import os.path as osp
from typing import Callable, Optional


def check_target(path: str, force: bool) -> None:
    """Refuse a target before any work is done for it.

    Raises:
        FileExistsError: If ``path`` exists and ``force`` is not set.
        FileNotFoundError: If its directory does not exist.
    """
    folder = osp.dirname(osp.abspath(path))
    if not osp.isdir(folder):
        raise FileNotFoundError(f'folder {folder!r} does not exist')
    if osp.exists(path) and not force:
        raise FileExistsError(f'{path!r} exists and is left as it is')


def write_atomically(path: str,
                     data: bytes,
                     force: bool = False,
                     check: Optional[Callable[[str], None]] = None) -> None:
    """Write to a temporary name beside ``path``, flush to disk, rename.

    Killed at any moment, it leaves the old file or none.

    Args:
        path (str): Target.
        data (bytes): What to write.
        force (bool): Replace an existing file.
        check (callable, optional): Given the temporary name, raises if the
            file does not read back; then there is no new file.

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
