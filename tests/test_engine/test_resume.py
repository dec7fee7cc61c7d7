"""Killed at any moment, a run goes on from its last whole checkpoint."""
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from mmengine.config import Config

import mmtern  # noqa: F401  (allows the types of its checkpoints)
from mmtern.engine.resume import is_whole, latest_whole_checkpoint, set_resume

REPOSITORY = Path(__file__).parents[2]


def saved(path, age):
    torch.save(dict(weight=torch.randn(1000)), path)
    now = time.time()
    os.utime(path, (now - age, now - age))
    return path


@pytest.fixture
def work_dir(tmp_path):
    for epoch in (1, 2, 10):
        saved(tmp_path / f'epoch_{epoch}.pth', age=100 - epoch)
    saved(tmp_path / 'best_coco_bbox_mAP_epoch_10.pth', age=1)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    return tmp_path


def cut(path):
    path.write_bytes(path.read_bytes()[:-500])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xff
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b'')


def test_the_named_one_where_it_is_whole(work_dir):
    assert latest_whole_checkpoint(str(work_dir)).endswith('epoch_2.pth')


@pytest.mark.parametrize('damage', [cut, flip, empty, Path.unlink])
def test_else_the_newest_whole_one(work_dir, damage):
    damage(work_dir / 'epoch_2.pth')
    assert latest_whole_checkpoint(str(work_dir)).endswith('epoch_10.pth')
    damage(work_dir / 'epoch_10.pth')
    assert latest_whole_checkpoint(str(work_dir)).endswith('epoch_1.pth')
    damage(work_dir / 'epoch_1.pth')
    assert latest_whole_checkpoint(str(work_dir)) is None


def loads_as_before(path, expected):
    return torch.equal(torch.load(path, weights_only=True)['weight'], expected)


def test_a_bit_flipped_in_the_directory(tmp_path):
    """Fallen back from, or loaded as it was; of all bits, one in eight."""
    path = saved(tmp_path / 'epoch_1.pth', age=0)
    expected = torch.load(path, weights_only=True)['weight']
    data = bytearray(path.read_bytes())
    with ZipFile(path) as archive:
        start = archive.start_dir
    rng = random.Random(0)
    fallen = 0
    for place in range(start, len(data)):
        bit = 1 << rng.randrange(8)
        data[place] ^= bit
        path.write_bytes(data)
        data[place] ^= bit
        found = latest_whole_checkpoint(str(tmp_path))
        fallen += found is None
        assert found is None or loads_as_before(path, expected), place
    assert fallen > (len(data) - start) / 2
    path.write_bytes(data)
    assert latest_whole_checkpoint(str(tmp_path)) == str(path)


# Place in an entry of the directory, and what is changed there: the packing, a
# password, a name that is no UTF-8, a folder, the size, the place, a comment.
@pytest.mark.parametrize('place, mask', [(10, 0x63), (8, 0x01), (46, 0x80),
                                         (38, 0x10), (20, 0x08), (42, 0x01),
                                         (32, 0x01)])
def test_each_kind_of_damage_in_the_directory(tmp_path, place, mask):
    saved(tmp_path / 'epoch_1.pth', age=10)
    path = saved(tmp_path / 'epoch_2.pth', age=0)
    with ZipFile(path) as archive:
        start = archive.start_dir
    data = bytearray(path.read_bytes())
    # The last one of the entries, a tensor's.
    entry = data.rindex(b'PK\x01\x02', start, data.index(b'version', start))
    data[entry + place] ^= mask
    path.write_bytes(data)
    assert latest_whole_checkpoint(str(tmp_path)).endswith('epoch_1.pth')


class Own:
    """A type that torch does not know."""


def test_objects_of_ones_own_are_no_damage(tmp_path):
    torch.save(dict(own=Own()), tmp_path / 'epoch_1.pth')
    assert is_whole(str(tmp_path / 'epoch_1.pth'))


def test_a_work_dir_with_brackets(tmp_path):
    folder = tmp_path / 'run[1]*'
    folder.mkdir()
    saved(folder / 'epoch_1.pth', age=0)
    assert latest_whole_checkpoint(str(folder)).endswith('epoch_1.pth')


@pytest.mark.parametrize('damage', [empty, Path.unlink])
def test_lost_note(work_dir, damage):
    damage(work_dir / 'last_checkpoint')
    assert latest_whole_checkpoint(str(work_dir)).endswith('epoch_10.pth')


def start(work_dir, epochs, *arguments):
    return subprocess.Popen([
        sys.executable,
        str(REPOSITORY / 'tools' / 'train.py'),
        str(REPOSITORY / 'tests' / 'toy_config.py'), '--work-dir',
        str(work_dir), *arguments, '--cfg-options',
        f'train_cfg.max_epochs={epochs}'
    ],
                            env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
                            stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE,
                            text=True)


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def training_began(work_dir, process, before):
    """Wait until a new checkpoint file is there, whole or not."""
    while process.poll() is None:
        if {(p, p.stat().st_mtime_ns)
                for p in work_dir.glob('epoch_*.pth') if p.exists()} - before:
            return True
        time.sleep(0.002)
    return False


@pytest.mark.parametrize('kills',
                         [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_never_stopping(tmp_path, kills):
    """Kills fall 0 to 0.3 s after a checkpoint was begun; the toy spends
    about half its time writing them."""
    epochs = 60 * kills
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    finish(start(whole, epochs))
    rng = random.Random(0)
    done = 0
    for _ in range(kills):
        before = {(p, p.stat().st_mtime_ns)
                  for p in killed.glob('epoch_*.pth')}
        process = start(killed, epochs, '--resume')
        if training_began(killed, process, before):
            time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done += process.returncode == -signal.SIGKILL
        newest = latest_whole_checkpoint(str(killed))
        assert newest is not None and is_whole(newest)
    assert done == kills
    finish(start(killed, epochs, '--resume'))
    expected, got = (
        torch.load(folder / f'epoch_{epochs}.pth', weights_only=True)
        for folder in (whole, killed))
    for key, value in expected['state_dict'].items():
        assert torch.equal(value, got['state_dict'][key]), key
    for index, state in expected['optimizer']['state'].items():
        momentum = got['optimizer']['state'][index]['momentum_buffer']
        assert torch.equal(state['momentum_buffer'], momentum)


@pytest.mark.parametrize('argument, resume, load_from', [
    ('auto', True, 'epoch_2.pth'),
    ('mine.pth', True, 'mine.pth'),
    (None, False, 'float.pth'),
])
def test_argument(work_dir, argument, resume, load_from):
    cfg = Config(dict(work_dir=str(work_dir), load_from='float.pth'))
    set_resume(cfg, argument)
    assert cfg.get('resume', False) is resume
    assert cfg.load_from.endswith(load_from)


def test_nothing_to_resume_keeps_load_from(tmp_path):
    """Killed before its first checkpoint, a fine-tuning run begins again
    from the weights it names and not from random ones."""
    cfg = Config(dict(work_dir=str(tmp_path), load_from='float.pth'))
    set_resume(cfg, 'auto')
    assert not cfg.resume and cfg.load_from == 'float.pth'
