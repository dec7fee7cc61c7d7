"""Which of mmdet's configs stand for the zoo: one of each model folder."""
import os.path as osp
import re
from pathlib import Path
from typing import List, Tuple

import mmdet

# Backbones from small to large; a name that holds none ranks last.
SIZES = [
    'nano', 'tiny', '_r18', '-t[-_]', 'mobilenet', 'w18', '_s_', '400MF',
    '_r34', 'effb', '-s[-_]', 'd53', '_r50', '_s50', 'res2net-50', '1.6GF',
    '3.2GF'
]
# What tells a folder's own models from the baselines beside them, where it is
# not the folder's name.
MARKS = dict(
    carafe='carafe',
    dcn='dconv',
    dcnv2='mdconv',
    detectors='detectors',
    empirical_attention='attn',
    gcnet='gcb',
    seesaw_loss='seesaw',
    simple_copy_paste='scp')
# Configs a folder gets at most.
TRIES = 3
# Folders of parts for other configs.
NO_MODELS = ('_base_', 'common', '__pycache__')


def zoo_root() -> Path:
    """The folder that holds the installed mmdet's ``configs``."""
    return Path(osp.dirname(mmdet.__file__)) / '.mim'


def choose() -> List[List[str]]:
    """For each folder a config, relative to ``configs``, and replacements.

    The first has the smallest backbone and, where there are several, a name
    like the folder's. The others are other kinds of model, to try where the
    float model before them does not run.
    """
    configs = zoo_root() / 'configs'
    chosen = []
    for folder in sorted(p for p in configs.iterdir() if p.is_dir()):
        if folder.name in NO_MODELS:
            continue
        names = sorted(
            (f.name for f in folder.glob('*.py') if 'tta' not in f.stem),
            key=lambda name: _rank(folder.name, name))
        kinds = {}
        for name in names:
            # cascade-rpn_faster-rcnn of cascade-rpn_faster-rcnn_r50-...
            kind = re.split(r'_[a-z]+\d', name)[0]
            kinds.setdefault(kind, f'{folder.name}/{name}')
        if kinds:
            chosen.append(list(kinds.values())[:TRIES])
    return chosen


def _rank(folder: str, name: str) -> Tuple[bool, int, int, str]:
    mark = MARKS.get(folder, re.sub(r'[^a-z0-9]', '', folder.lower()))
    plain = re.sub(r'[^a-z0-9]', '', name.lower())
    size = next((i for i, size in enumerate(SIZES) if re.search(size, name)),
                len(SIZES))
    return mark not in plain, size, len(name), name
