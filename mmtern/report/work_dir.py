"""The content of the work directory of a training."""
import json
import os.path as osp
import re
from dataclasses import dataclass
from glob import escape, glob
from typing import Dict, List, Optional, Tuple

import torch
from mmengine.config import Config

from ..engine.checkpoints import read_checkpoint
from ..files.type_names import use_registered_names

Rows = List[Dict[str, float]]
# COCO, VOC, then whatever a metric calls a mean AP.
METRICS = ('coco/bbox_mAP', 'pascal_voc/mAP')
# What the training's log says about itself.
FACTS = {
    'command': r'Command: (.+)$',
    'seed': r'numpy_random_seed: (\d+)',
    'Python': r'^\s*Python: (\S+)',
    'PyTorch': r'^\s*PyTorch: (\S+)',
    'CUDA': r'^\s*CUDA available: (True|False)',
    'GPU': r'^\s*GPU [\d,]+: (.+)$',
}


@dataclass(frozen=True)
class Record:
    """The log of one start of the training, from its timestamped folder.

    Attributes:
        folder: Its path.
        config: The config that it ran with; None where it was deleted.
        train: Logged scalars of training, by ``step``.
        val: Results of validation.
    """
    folder: str
    config: Optional[Config]
    train: Rows
    val: Rows


class WorkDir:
    """A run's config, scalars and checkpoints, as far as they exist.

    All of it comes from the training's own timestamped folders. The config
    beside the checkpoints is anybody's: testing in the same work directory
    writes over it.

    Args:
        path (str): The work directory of mmengine's runner.

    Attributes:
        config (Config, optional): The one that the training ran with.
        start (str, optional): ``load_from`` of its first start; that of a
            resumed one is its own checkpoint.
        train (list[dict]): Logged scalars by ``step``, resumed runs joined.
        val (list[dict]): Results of validation; ``step`` is the epoch, or
            the iteration where the loop counts those.
        folder (str, optional): Of the latest start.
        config_file (str, optional): The config beside the checkpoints.
        name (str): Of that file, or else of the directory.

    Raises:
        ValueError: If ``path`` is no directory of a training.
    """

    def __init__(self, path: str) -> None:
        if not osp.isdir(path):
            raise ValueError(f'work directory {path!r} does not exist')
        self.path = path
        records = _read_records(path)
        self.train: Rows = []
        self.val: Rows = []
        for record in records:
            self.train = _join(self.train, record.train)
            self.val = _join(self.val, record.val)
        dumped = self.glob('*.py')
        dumped.sort(key=osp.getmtime)
        configs = [r.config for r in records if r.config is not None]
        if not configs and dumped:
            configs = [Config.fromfile(dumped[-1])]
        if not configs and not records:
            raise ValueError(f'{path!r} holds neither a config nor '
                             'vis_data/scalars.json, so it is no work '
                             'directory of a training')
        self.config: Optional[Config] = configs[-1] if configs else None
        self.start: Optional[str] = configs[0].get(
            'load_from') if configs else None
        if configs and not configs[0].get('resume') and self._is_own(
                self.start):
            # A training and a test in one process share a visualizer, and
            # the test's config lies where the training's did.
            own = self._checkpoint_config()
            if own is not None and not own.get('resume'):
                self.config, self.start = own, own.get('load_from')
        if self.config is not None:
            use_registered_names(list(self.config.values()))
        self.folder = records[-1].folder if records else None
        self.config_file: Optional[str] = dumped[-1] if dumped else None
        self.name = osp.splitext(
            osp.basename(self.config_file or osp.abspath(path)))[0]

    def _is_own(self, checkpoint: Optional[str]) -> bool:
        """Return whether a checkpoint lies in a directory of this one's name:
        the directory may have moved."""
        folder = osp.basename(osp.dirname(checkpoint or ''))
        return folder == osp.basename(osp.abspath(self.path))

    def _checkpoint_config(self) -> Optional[Config]:
        """Return the config in the last checkpoint's ``meta``."""
        if self.last_checkpoint is None:
            return None
        text = read_checkpoint(self.last_checkpoint)['meta'].get('cfg')
        return Config.fromstring(text, '.py') if text else None

    def glob(self, pattern: str) -> List[str]:
        """Return the files of the directory itself, sorted by name."""
        return sorted(glob(osp.join(escape(self.path), pattern)))

    def checkpoints(self, epoch_length: Optional[int]) -> Dict[int, str]:
        """Return the paths of the checkpoints by iteration, ascending; those
        named by epoch only where ``epoch_length`` (iterations) is known."""
        found = {}
        for path in self.glob('*.pth'):
            match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth',
                                 osp.basename(path))
            length = epoch_length if match and match[1] == 'epoch' else 1
            if match and length:
                found[int(match[2]) * length] = path
        return dict(sorted(found.items()))

    @property
    def last_checkpoint(self) -> Optional[str]:
        """Return the checkpoint that mmengine noted as the last, or else that
        of the highest number."""
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
        """Return the file of ``start``, which is in torch's cache if it was
        downloaded."""
        source = self.start
        if source and '://' in source:
            source = osp.join(torch.hub.get_dir(), 'checkpoints',
                              osp.basename(source))
        return source if source and osp.isfile(source) else None

    @property
    def seconds(self) -> Optional[float]:
        """Return the time of all training steps, without validation."""
        times = [row['time'] for row in self.train if 'time' in row]
        if not times:
            return None
        return sum(times) / len(times) * self.train[-1]['step']

    def facts(self, meta: dict) -> List[Tuple[str, str]]:
        """Return name and value of the facts about the run.

        Args:
            meta (dict): ``meta`` of its last checkpoint.
        """
        log = ''
        for path in glob(osp.join(escape(self.folder or ''), '*.log')):
            with open(path, encoding='utf-8', errors='replace') as file:
                log = file.read(200_000)
        found = []
        for name, pattern in FACTS.items():
            match = re.search(pattern, log, re.M)
            if match:
                found.append((name, match[1]))
        if 'mmengine_version' in meta:
            # With the commit of the folder that the run was started in.
            told = meta['mmengine_version']
            version = re.sub('([0-9a-f]{40}|unknown)$', '', told)
            found.append(('mmengine', version))
            commit = told[len(version):]
            if commit not in ('', 'unknown'):
                found.append(('commit', commit[:12]))
        if 'seed' in meta and not any(name == 'seed' for name, _ in found):
            found.append(('seed', str(meta['seed'])))
        return found

    def average_precision(self) -> Tuple[str, List[float], List[float]]:
        """Return the name of the metric, the steps of validation and its
        values in percent."""
        keys = [key for row in self.val for key in row]
        known = [key for key in METRICS if key in keys]
        known += [key for key in keys if key.endswith('mAP')]
        if not known:
            return '', [], []
        rows = [row for row in self.val if known[0] in row]
        return (known[0], [row['step'] for row in rows],
                [100 * row[known[0]] for row in rows])


def _read_records(path: str) -> List[Record]:
    """Return the starts that make up the training: the last one that did not
    resume, and those that resumed it."""
    records: List[Record] = []
    # Named by time, so sorting is the order of the runs.
    pattern = osp.join(escape(path), '*', 'vis_data', 'scalars.json')
    for file in sorted(glob(pattern)):
        # Of step 0 are tests and validations beside a training.
        rows = [row for row in _read_lines(file) if row['step'] > 0]
        train = [row for row in rows if 'iter' in row]
        if not train:
            continue  # a test
        source = osp.join(osp.dirname(file), 'config.py')
        config = Config.fromfile(source) if osp.isfile(source) else None
        if config is not None and not config.get('resume'):
            records = []
        records.append(
            Record(
                osp.dirname(osp.dirname(file)), config, train,
                [row for row in rows if 'iter' not in row]))
    return records


def _join(before: Rows, after: Rows) -> Rows:
    """Join the scalars of several starts; where a resumed run repeats steps,
    the later run counts."""
    if not after:
        return before
    start = after[0]['step']
    return [row for row in before if row['step'] < start] + after


def without_repeats(rows: Rows) -> Rows:
    """Return the rows of statistics of the weights, each measurement once.

    Version 0.1 wrote the last measurement into every line of the log until
    the next one.
    """
    different: Rows = []
    last: Dict[str, float] = {}
    for row in rows:
        measured = {
            key: value
            for key, value in row.items()
            if key.startswith('ternary/') and key != 'ternary/lambda'
        }
        if measured and measured != last:
            different.append(row)
            last = measured
    return different


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
