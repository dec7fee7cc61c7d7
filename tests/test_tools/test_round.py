"""One round through the tools: train, stop, resume, test."""
import json
import os
import subprocess
import sys

import pytest
import torch

import mmtern  # noqa: F401  (allows the types of its checkpoints)
from ..shapes import REPOSITORY, draw_shapes, tiny_config

EPOCHS, STOP, ITERATIONS = 4, 3, 2
VARIED = {'time', 'data_time', 'memory'}


def tool(name, *arguments):
    result = subprocess.run([
        sys.executable,
        str(REPOSITORY / 'tools' / name), *map(str, arguments)
    ],
                            env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
                            capture_output=True,
                            text=True,
                            timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]


def rows_of(work_dir, name='vis_data/scalars.json'):
    [path] = work_dir.glob(f'*/{name}')
    rows = map(json.loads, path.read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in VARIED} for row in rows]


@pytest.fixture
def config(tmp_path):
    """The shipped recipe with few channels, 2 iterations an epoch and its
    approach phase."""
    root = draw_shapes(tmp_path / 'shapes', '--train', '4', '--val', '2',
                       '--test', '2')
    cfg = tiny_config(root, 'tern_retinanet_r18-lite_shapes', EPOCHS, 2)
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.model.bbox_head.update(in_channels=16, feat_channels=16)
    cfg.model.test_cfg.score_thr = 0.0  # so that it detects something
    cfg.param_scheduler[0].end = 2
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=EPOCHS)
    cfg.default_hooks.logger.interval = 1
    # mmengine's checkpoints do not hold the random numbers of augmentation.
    [flip] = [
        step for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'RandomFlip'
    ]
    flip.prob = 0.0
    # So that validation after training and tools/test.py must agree.
    cfg.test_dataloader, cfg.test_evaluator = (cfg.val_dataloader,
                                               cfg.val_evaluator)
    cfg.dump(tmp_path / 'config.py')
    return tmp_path / 'config.py'


def test_train_resume_test(tmp_path, config):
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    last = f'epoch_{EPOCHS}.pth'
    tool('train.py', config, '--work-dir', whole)
    tool('train.py', config, '--work-dir', resumed, '--resume',
         whole / f'epoch_{STOP}.pth')
    expected, got = (
        torch.load(folder / last, weights_only=True)
        for folder in (whole, resumed))
    for key, value in expected['state_dict'].items():
        assert torch.equal(value, got['state_dict'][key]), key
    for index, state in expected['optimizer']['state'].items():
        for key, value in state.items():
            again = got['optimizer']['state'][index][key]
            assert torch.equal(value, again), key
    rows = rows_of(whole)
    assert len(rows) == EPOCHS * ITERATIONS + 1  # and one validation
    assert rows[STOP * ITERATIONS:] == rows_of(resumed)

    tool('test.py', config, resumed / last, '--work-dir', tmp_path / 'test')
    [path] = (tmp_path / 'test').glob('*/*.json')
    tested = json.loads(path.read_text())
    assert tested['coco/bbox_mAP'] == rows[-1]['coco/bbox_mAP']
