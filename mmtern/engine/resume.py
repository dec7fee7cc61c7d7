"""The search for the checkpoint from which an interrupted run can resume."""
import logging
import os.path as osp
from glob import escape, glob
from pickle import UnpicklingError
from typing import Optional
from zipfile import ZipFile

import torch
from mmengine.config import Config
from mmengine.logging import print_log

# In the attributes of a zip archive's entry.
MS_DOS_FOLDER = 0x10


def is_whole(path: str) -> bool:
    """Return whether a checkpoint was written completely and can be read.

    torch's files are zip archives, whose directory comes last and which
    carry a checksum for each tensor, though none for the directory. torch
    itself reads it, too: it refuses other damage than Python does.
    """
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
            if archive.testzip() is not None:
                return False
        # torch takes an entry marked as a folder for an empty one, and fills
        # its tensor with what lies in memory.
        if any(entry.external_attr & MS_DOS_FOLDER for entry in entries):
            return False
        torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError:
        # The checksums are right; it holds objects of a user's own.
        return True
    except Exception:
        # A damaged directory may ask for anything: passwords, compressions
        # that do not exist, names in no encoding.
        return False
    return True


def latest_whole_checkpoint(work_dir: str) -> Optional[str]:
    """Return the checkpoint to resume from, or None.

    mmengine takes what ``last_checkpoint`` names. That is used here too,
    unless a kill or a full disk left the note empty or the file damaged: then
    it is the newest whole checkpoint, with a warning.
    """
    note = osp.join(work_dir, 'last_checkpoint')
    named = ''
    if osp.isfile(note):
        with open(note) as file:
            named = file.read().strip()
        if named and is_whole(named):
            return named
    # Not best_*.pth: it has no optimizer state.
    folder = escape(work_dir)
    found = glob(osp.join(folder, 'epoch_*.pth'))
    found += glob(osp.join(folder, 'iter_*.pth'))
    for path in sorted(found, key=osp.getmtime, reverse=True):
        if is_whole(path):
            print_log(
                f'{note} names {named!r}, which is missing or damaged; going '
                f'on from {path}',
                logger='current',
                level=logging.WARNING)
            return path
    return None


def set_resume(cfg: Config, argument: Optional[str]) -> None:
    """Set what ``--resume`` asks for: a checkpoint, 'auto' for the latest
    one in the work directory, or None.

    With nothing there yet, a run starts as its config says; mmengine's
    automatic search would drop ``load_from``.
    """
    if argument is None:
        return
    checkpoint: Optional[str] = argument
    if argument == 'auto':
        checkpoint = latest_whole_checkpoint(cfg.work_dir)
    cfg.resume = checkpoint is not None
    if cfg.resume:
        cfg.load_from = checkpoint
    else:
        print_log(
            f'{cfg.work_dir!r} holds no whole checkpoint to resume from; '
            'starting from the beginning',
            logger='current',
            level=logging.WARNING)
