"""Two processes give what one gives on the same global batch."""
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmtern  # noqa: F401  (allows the types of its checkpoints)

REPOSITORY = Path(__file__).parent.parent
CONFIG = REPOSITORY / 'tests' / 'toy_config.py'


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])


def train(work_dir, ranks, *options):
    environment = dict(
        os.environ,
        MASTER_PORT=free_port(),
        PYTHONPATH=str(REPOSITORY),
        PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    if ranks == 1:
        command = [sys.executable, str(REPOSITORY / 'tools' / 'train.py')]
        command += [str(CONFIG)]
    else:
        command = ['bash', str(REPOSITORY / 'tools' / 'dist_train.sh')]
        command += [str(CONFIG), str(ranks)]
    result = subprocess.run(
        [*command, '--work-dir', str(work_dir), '--cfg-options', *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    checkpoint = torch.load(work_dir / 'epoch_6.pth', weights_only=True)
    [log] = work_dir.glob('*/vis_data/scalars.json')
    return checkpoint['state_dict'], [
        json.loads(line) for line in log.read_text().splitlines()
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason='tests gloo on the CPU')
def test_two_ranks_equal_one(tmp_path):
    one, one_log = train(tmp_path / 'one', 1, 'train_dataloader.batch_size=4')
    two, two_log = train(tmp_path / 'two', 2, 'train_dataloader.batch_size=2')
    assert (tmp_path / 'two' / 'same_steps').read_text() == '12'
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)
    assert len(one_log) == len(two_log) == 12
    for a, b in zip(one_log, two_log):
        # Once, not once a rank. (The toy's own loss is logged by rank 0, for
        # its half of the batch.)
        assert a['loss_ternary'] == pytest.approx(
            b['loss_ternary'], rel=1e-4)


def test_usage_is_one_sentence():
    result = subprocess.run(
        ['bash', str(REPOSITORY / 'tools' / 'dist_train.sh'), 'config.py'],
        capture_output=True,
        text=True)
    assert result.returncode == 2
    assert result.stderr.startswith('error: usage: ')
