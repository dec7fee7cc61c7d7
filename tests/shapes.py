"""The embedded data set and its ternary RetinaNet at a tiny scale."""
import subprocess
import sys
from pathlib import Path

from mmengine.config import Config

REPOSITORY = Path(__file__).parent.parent


def draw_shapes(root: Path, *arguments: str) -> Path:
    """Draw the data set; ``arguments`` are those of tools/make_shapes.py."""
    tool = REPOSITORY / 'tools' / 'make_shapes.py'
    subprocess.run(
        [sys.executable, str(tool),
         str(root), *arguments],
        check=True,
        capture_output=True)
    return root


def tiny_config(root: Path, name: str, epochs: int, batch_size: int) -> Config:
    """``configs/<name>.py`` on the data in ``root``, images of 64 x 48, no
    checkpoint to begin with."""
    cfg = Config.fromfile(str(REPOSITORY / 'configs' / f'{name}.py'))
    cfg.load_from = None
    cfg.log_level = 'ERROR'
    cfg.randomness = dict(seed=0)
    cfg.train_cfg.max_epochs = epochs
    cfg.param_scheduler[-1].update(end=epochs, T_max=epochs)
    cfg.train_dataloader.batch_size = batch_size
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.data_root = f'{root}/'
        for step in dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (64, 48)
    for split in ('val', 'test'):
        cfg[f'{split}_evaluator'].ann_file = str(root / 'annotations' /
                                                 f'{split}.json')
    return cfg
