"""Two processes give what one gives on the same global batch."""
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmtern  # noqa: F401  (allows the types of its checkpoints)
from ..shapes import REPOSITORY, draw_shapes, tiny_config
from ..small_detectors import small_fcos, ternary_twin

TOY = REPOSITORY / 'tests' / 'toy_config.py'
# mmengine asks only rank 0 for ZeRO's state, which waits for all ranks.
ZERO = ('optim_wrapper.optimizer.type=ZeroRedundancyOptimizer',
        'optim_wrapper.optimizer.optimizer_type=SGD',
        'default_hooks.checkpoint.save_optimizer=False')


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])


def train(config, work_dir, ranks, batch_size, *options):
    """Its last checkpoint, each step's mean losses, and the log."""
    environment = dict(
        os.environ,
        MASTER_PORT=free_port(),
        PYTHONPATH=str(REPOSITORY),
        PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    if ranks == 1:
        command = [sys.executable, str(REPOSITORY / 'tools' / 'train.py')]
        command += [str(config)]
    else:
        command = ['bash', str(REPOSITORY / 'tools' / 'dist_train.sh')]
        command += [str(config), str(ranks)]
    result = subprocess.run([
        *command, '--work-dir',
        str(work_dir), '--cfg-options',
        f'train_dataloader.batch_size={batch_size}', *options
    ],
                            env=environment,
                            capture_output=True,
                            text=True,
                            timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    checkpoint = (work_dir / 'last_checkpoint').read_text()
    [log] = work_dir.glob('*/vis_data/scalars.json')
    rows = map(json.loads, log.read_text().splitlines())
    return (torch.load(checkpoint, weights_only=True)['state_dict'],
            json.loads((work_dir / 'ranks.json').read_text()),
            [row for row in rows if 'loss' in row])


def detector_config(folder):
    """FCOS, because its loss divides by the objects on all ranks. (mmdet's
    RetinaNet divides by those of its own rank, float or ternary.)"""
    root = draw_shapes(folder / 'shapes', '--train', '8', '--val', '1',
                       '--test', '1')
    cfg = tiny_config(root, 'tern_retinanet_r18-lite_shapes', 3, 4)
    toy = Config.fromfile(str(TOY))
    cfg.model = ternary_twin(small_fcos(norm_eval=True))
    for key in ('custom_imports', 'custom_hooks', 'default_hooks'):
        cfg[key] = toy[key]
    # As in the toy: nothing that a rank draws for itself, and no Adam.
    cfg.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
    cfg.train_dataloader.sampler.shuffle = False
    cfg.train_dataloader.dataset.pipeline = [
        step for step in cfg.train_dataloader.dataset.pipeline
        if step.type != 'RandomFlip'
    ]
    for key in ('param_scheduler', 'val_cfg', 'val_dataloader',
                'val_evaluator'):
        cfg[key] = None
    cfg.dump(folder / 'config.py')
    return folder / 'config.py'


@pytest.mark.skipif(torch.cuda.is_available(), reason='tests gloo on the CPU')
@pytest.mark.parametrize(
    'config, steps, options', [
        (lambda folder: TOY, 12, ()),
        (lambda folder: TOY, 12, ZERO),
        pytest.param(detector_config, 6, (), marks=pytest.mark.slow),
    ],
    ids=['toy', 'zero', 'detector'])
def test_two_ranks_equal_one(tmp_path, config, steps, options):
    config = config(tmp_path)
    one, one_losses, one_log = train(config, tmp_path / 'one', 1, 4)
    two, two_losses, two_log = train(config, tmp_path / 'two', 2, 2, *options)
    assert len(one_losses) == len(two_losses) == steps
    assert all(step.pop('same') for step in one_losses + two_losses)
    for a, b in zip(one_losses, two_losses):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert value == pytest.approx(b[key], rel=1e-4), key
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)
    # The log counts the regularizer once, not once a rank. (The detector's
    # own losses are logged by rank 0, for its part of the batch.)
    assert len(one_log) == len(two_log) == steps
    for a, b in zip(one_log, two_log):
        assert a['loss_ternary'] == pytest.approx(b['loss_ternary'], rel=1e-4)


def test_usage_is_one_sentence():
    result = subprocess.run(
        ['bash',
         str(REPOSITORY / 'tools' / 'dist_train.sh'), 'config.py'],
        capture_output=True,
        text=True)
    assert result.returncode == 2
    assert result.stderr.startswith('error: usage: ')
