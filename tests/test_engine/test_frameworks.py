import os
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mmtern import TernaryScheduleHook
from mmtern.engine import frameworks
from mmtern.version import SUPPORTED
from ..toy import toy_runner

ROOT = Path(__file__).parents[2]


def set_version(monkeypatch, name, version):
    monkeypatch.setattr(sys.modules[name], '__version__', version)


def test_installed_versions_pass():
    frameworks.check_versions()


@pytest.mark.parametrize('name, version', [
    ('torch', '1.13.1'),
    ('mmengine', '0.10.6'),
    ('mmengine', '1.0.0'),
    ('mmcv', '2.0.1'),
    ('mmcv', '2.4.0'),
    ('mmdet', '3.2.0'),
    ('mmdet', '4.0.0'),
])
def test_version_outside_range_is_named(monkeypatch, name, version):
    set_version(monkeypatch, name, version)
    sentence = re.escape(f'mmtern needs {name}{SUPPORTED[name]}, but {name} '
                         f'{version} is installed')
    with pytest.raises(ImportError, match=sentence + '.*setup_env.sh'):
        frameworks.check_versions()


@pytest.mark.parametrize('name, version', [
    ('torch', '2.13.0+cpu'),
    ('torch', '2.14.0a0+git1234'),
    ('mmcv', '2.1.0'),
    ('mmengine', '0.10.7'),
    ('mmdet', '3.3.0'),
])
def test_version_within_range_passes(monkeypatch, name, version):
    set_version(monkeypatch, name, version)
    frameworks.check_versions()


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(SUPPORTED, 'mmabsent', '>=1.0')
    with pytest.raises(ImportError, match='mmabsent>=1.0, which is not inst'):
        frameworks.check_versions()


def test_clash_between_frameworks_is_named(monkeypatch, tmp_path):
    (tmp_path / 'mmclash.py'
     ).write_text("assert False, 'MMCV==2.2.0 is used but incompatible.'")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(SUPPORTED, 'mmclash', '>=1.0')
    with pytest.raises(ImportError, match='mmclash refuses .*MMCV==2.2.0 is'):
        frameworks.check_versions()


def test_setup_and_import_check_share_their_ranges(monkeypatch):
    metadata = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, 'setup',
                        lambda **fields: metadata.update(fields))
    runpy.run_path('setup.py')
    stated = {}
    extras = metadata['extras_require']
    for line in (metadata['install_requires'] + extras['onedl'] +
                 extras['openmmlab']):
        requirement = Requirement(line)
        module = requirement.name.removeprefix('onedl-')
        module = 'mmdet' if module == 'mmdetection' else module
        stated.setdefault(module, set()).add(requirement.specifier)
    for name, accepted in SUPPORTED.items():
        assert stated[name] == {SpecifierSet(accepted)}


strict_by_default = pytest.mark.skipif(
    tuple(map(int,
              torch.__version__.split('.')[:2])) < (2, 6),
    reason='weights_only is off by default before torch 2.6')


@strict_by_default
def test_own_checkpoints_load_with_the_check_on(tmp_path):
    runner = toy_runner(tmp_path, [TernaryScheduleHook()], epochs=1)
    runner.train()
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert history.current() == runner.message_hub.get_scalar(
        'train/loss').current()


@strict_by_default
def test_they_do_so_after_loads_by_mmengine(tmp_path):
    path = tmp_path / 'a.pth'
    history = HistoryBuffer()
    history.update(1.5)
    torch.save(dict(state_dict={}, history=history), path)
    for _ in range(2):
        CheckpointLoader.load_checkpoint(str(path))
        loaded = torch.load(path, weights_only=True)
        assert loaded['history'].current() == 1.5


class Reaches:
    """Pickles as ``getattr(owner, name)``."""

    def __init__(self, owner, name):
        self.reference = owner, name

    def __reduce__(self):
        return getattr, self.reference


@strict_by_default
def test_the_check_still_refuses_everything_else(tmp_path):
    path = tmp_path / 'evil.pth'
    for evil in (Reaches(torch.Tensor, 'numpy'), Reaches(dict,
                                                         'get'), os.system):
        torch.save(dict(state_dict=evil), path)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)


@strict_by_default
def test_torch_can_be_told_to_check_in_any_loader(tmp_path):
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict=os.system), path)
    code = ('import mmtern, sys\n'
            'from mmengine.runner import CheckpointLoader\n'
            'CheckpointLoader.load_checkpoint(sys.argv[1])\n')
    result = subprocess.run(
        [sys.executable, '-c', code, str(path)],
        env=dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD='1'),
        capture_output=True,
        text=True)
    assert result.returncode != 0 and 'UnpicklingError' in result.stderr
