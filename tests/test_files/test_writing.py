"""What is refused before a file is written, and what a failed write
leaves."""
import multiprocessing
import os
import time

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmtern.files import TernaryFileError, read_packed, save_packed
from mmtern.files.container import write_atomically
from tests.test_files.samples import CONFIG, META, save_toy, toy_model


@pytest.mark.parametrize('option, value', [('encoding', 'zip'),
                                           ('dtype', 'int8'),
                                           ('predictions', 'int4')])
def test_unknown_options(tmp_path, option, value):
    with pytest.raises(ValueError, match=f'{option} must be one of'):
        save_toy(tmp_path / 'a.safetensors', **{option: value})


def test_only_models_worth_a_file_are_taken(tmp_path):
    with pytest.raises(ValueError, match='no ternary layers'):
        save_toy(tmp_path / 'a.safetensors', toy_model(ternary=False))
    with pytest.raises(ValueError, match='.safetensors'):
        save_toy(tmp_path / 'a.pth')
    model = toy_model()
    model.neck.weight.data[0] = float('nan')
    with pytest.raises(ValueError, match='neck.weight holds values'):
        save_toy(tmp_path / 'a.safetensors', model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('meta, sentence', [
    (dict(classes='uav'), "write classes=\\('uav', \\)"),
    (dict(classes=[1]), 'hold 1, which is no text'),
    (dict(classes=5), 'must be a list, but got a int'),
    (dict(palette=[(0.5, 1, 2)]), 'whole numbers from 0 to 255'),
    (dict(palette=[(1, 2)]), 'whole numbers from 0 to 255'),
    (dict(palette=[(1, 2, 256)]), 'whole numbers from 0 to 255'),
    (dict(palette=[(1, 2, float('nan'))]), 'whole numbers from 0 to 255'),
])
def test_names_and_colours_are_checked(tmp_path, meta, sentence):
    with pytest.raises(TernaryFileError, match=sentence):
        save_packed(toy_model(), CONFIG, str(tmp_path / 'a.safetensors'), meta)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('palette, expected', [
    ([(1.0, 2.0, 255.0)], [(1, 2, 255)]),
    ([np.array([1, 2, 3]).tolist()], [(1, 2, 3)]),
    ([tuple(np.array([1, 2, 3], np.uint8))], [(1, 2, 3)]),
    ((1, 2, 3), [(1, 2, 3), (1, 2, 3)]),
    ('coco', 'coco'),
])
def test_whole_colours_of_any_type_are_read_back(tmp_path, palette, expected):
    path = str(tmp_path / 'a.safetensors')
    meta = dict(CLASSES=['cat', 'dog'], PALETTE=palette)
    save_packed(toy_model(), CONFIG, path, meta)
    assert read_packed(path).dataset_meta == dict(
        classes=('cat', 'dog'), palette=expected)


def test_a_file_that_does_not_read_back_is_not_handed_out(tmp_path):
    """A name with a colon is the file's own for parts of a weight."""
    model = toy_model()
    model.register_buffer('a:b', torch.ones(3))
    path = tmp_path / 'a.safetensors'
    path.write_text('precious')
    with pytest.raises(TernaryFileError, match='a:b'):
        save_toy(path, model, force=True)
    assert path.read_text() == 'precious' and len(list(
        tmp_path.iterdir())) == 1


def test_a_file_that_only_its_owner_can_read_says_so(tmp_path):
    path = str(tmp_path / 'a.safetensors')
    cfg = Config(dict(model=dict(type='LAD', teacher_ckpt='a.pth')))
    table = save_packed(toy_model(), cfg, path, META)
    note, = table.notes
    assert 'model.teacher_ckpt' in note and 'trust_config=True' in note
    assert read_packed(path, trust_config=True).config


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_text('precious')
    with pytest.raises(FileExistsError, match='left as it is'):
        save_toy(path)
    assert path.read_text() == 'precious'
    save_toy(path, force=True)
    read_packed(str(path))
    with pytest.raises(FileNotFoundError, match='folder'):
        save_toy(tmp_path / 'no' / 'a.safetensors')
    (tmp_path / 'b.safetensors').mkdir()
    with pytest.raises(IsADirectoryError, match='is a folder'):
        save_toy(tmp_path / 'b.safetensors', force=True)


def test_paths_of_any_kind_are_taken(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_packed(toy_model(), CONFIG, path, META)
    assert read_packed(path).config == read_packed(str(path)).config


def test_a_failed_write_leaves_the_old_file_and_no_other(
        tmp_path, monkeypatch):
    path = tmp_path / 'a.safetensors'
    path.write_text('precious')

    def full_disk(_):
        raise OSError('no space left')

    monkeypatch.setattr(os, 'fsync', full_disk)
    with pytest.raises(OSError, match='no space'):
        write_atomically(str(path), b'new', force=True)
    assert path.read_text() == 'precious'
    assert len(list(tmp_path.iterdir())) == 1


def _write_for_ever(path, started):
    started.set()
    while True:
        for digit in b'123456789':
            write_atomically(path, bytes([digit]) * 1_000_000, force=True)


@pytest.mark.skipif(os.name != 'posix', reason='needs SIGKILL')
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / 'a.bin'
    path.write_bytes(b'0' * 1_000_000)
    fork = multiprocessing.get_context('fork')
    for delay in (0.001, 0.004, 0.009, 0.02, 0.05):
        started = fork.Event()
        writer = fork.Process(
            target=_write_for_ever, args=(str(path), started))
        writer.start()
        assert started.wait(60)
        time.sleep(delay)
        writer.kill()
        writer.join()
        data = path.read_bytes()
        assert len(data) == 1_000_000 and len(set(data)) == 1
