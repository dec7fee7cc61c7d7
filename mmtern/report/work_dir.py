"""What a training left in its work directory."""
import json
import os.path as osp
import re
from glob import glob
from typing import Dict, List, Optional, Tuple

import torch
from mmengine.config import Config

Rows = List[Dict[str, float]]
# COCO, VOC, then whatever a metric calls a mean AP.
METRICS = ('coco/bbox_mAP', 'pascal_voc/mAP')


class WorkDir:
    """A run's config, scalars and checkpoints, as far as they are there.

    Args:
        path (str): The work directory of mmengine's runner.

    Attributes:
        config (Config, optional): The one that the runner dumped.
        train (list[dict]): Logged scalars by ``step``, resumed runs joined.
        val (list[dict]): Results of validation; ``step`` is the epoch, or
            the iteration where the loop counts those.

    Raises:
        ValueError: If ``path`` is no directory of a training.
    """

    def __init__(self, path: str) -> None:
        if not osp.isdir(path):
            raise ValueError(f'work directory {path!r} does not exist')
        self.path = path
        dumped = sorted(glob(osp.join(path, '*.py')), key=osp.getmtime)
        self.config: Optional[Config] = None
        if dumped:
            self.config = Config.fromfile(dumped[-1])
        self.name = osp.splitext(osp.basename(
            dumped[-1]))[0] if (dumped) else osp.basename(osp.abspath(path))
        self.train, self.val = _read_scalars(path)
        if not dumped and not self.train and not self.val:
            raise ValueError(f'{path!r} holds neither a config nor '
                             'vis_data/scalars.json, so it is no work '
                             'directory of a training')

    def checkpoints(self, epoch_length: Optional[int]) -> Dict[int, str]:
        """Paths by iteration, ascending; those named by epoch only where
        ``epoch_length`` (iterations) is known."""
        found = {}
        for path in glob(osp.join(self.path, '*.pth')):
            match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth',
                                 osp.basename(path))
            length = epoch_length if match and match[1] == 'epoch' else 1
            if match and length:
                found[int(match[2]) * length] = path
        return dict(sorted(found.items()))

    @property
    def last_checkpoint(self) -> Optional[str]:
        """The one that mmengine noted as last, else the highest number."""
        note = osp.join(self.path, 'last_checkpoint')
        if osp.isfile(note):
            with open(note) as file:
                name = osp.basename(file.read().strip())
            # By name: the directory may have moved since.
            path = osp.join(self.path, name)
            if osp.isfile(path):
                return path
        # Any length keeps their order: a run names them all in one way.
        return next(reversed(self.checkpoints(1).values()), None)

    @property
    def start_checkpoint(self) -> Optional[str]:
        """The config's ``load_from``, a downloaded one from torch's cache."""
        source = (self.config or {}).get('load_from')
        if source and '://' in source:
            source = osp.join(torch.hub.get_dir(), 'checkpoints',
                              osp.basename(source))
        return source if source and osp.isfile(source) else None

    def average_precision(self) -> Tuple[str, List[float], List[float]]:
        """Name of the metric, steps of validation and its values in
        percent."""
        keys = [key for row in self.val for key in row]
        known = [key for key in METRICS if key in keys]
        known += [key for key in keys if key.endswith('mAP')]
        if not known:
            return '', [], []
        rows = [row for row in self.val if known[0] in row]
        return (known[0], [row['step'] for row in rows],
                [100 * row[known[0]] for row in rows])


def _read_scalars(path: str) -> Tuple[Rows, Rows]:
    train: Rows = []
    val: Rows = []
    # Named by time, so sorting is the order of the runs.
    files = sorted(glob(osp.join(path, '*', 'vis_data', 'scalars.json')))
    for file in files:
        rows = _read_lines(file)
        train = _join(train, [row for row in rows if 'iter' in row])
        val = _join(val, [row for row in rows if 'iter' not in row])
    return train, val


def _join(before: Rows, after: Rows) -> Rows:
    """A resumed run does some steps again; the later run counts."""
    if not after:
        return before
    start = after[0]['step']
    return [row for row in before if row['step'] < start] + after


def _read_lines(path: str) -> Rows:
    rows = []
    with open(path) as file:
        for line in file:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # a killed run can leave half a line
            if 'step' in row:
                rows.append(row)
    return rows
