"""Cheap checks only: each ends before anything is installed."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    """Runs a script of a copy: a check that fails to stop it would otherwise
    delete the environment these tests run in."""
    copy = tmp_path / 'copy'
    shutil.copytree(ROOT / 'tools', copy / 'tools')
    (copy / 'mmtern').mkdir()
    for name in ('setup.py', 'pyproject.toml', 'mmtern/version.py'):
        shutil.copy(ROOT / name, copy / name)

    def call(*arguments, script='setup_env.sh', **environment):
        return subprocess.run(
            ['bash', str(copy / 'tools' / script), *arguments],
            env={
                **os.environ,
                **environment
            },
            capture_output=True,
            text=True,
            timeout=60)

    return call


def program(folder, name, line):
    path = folder / name
    path.write_text(f'#!/bin/sh\n{line}\n')
    path.chmod(0o755)
    return str(path)


def assert_sentence(result, *words):
    assert result.returncode != 0
    assert result.stdout == ''
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize('arguments, words', [
    (['--stack', 'other'], ['onedl or openmmlab', "'other'"]),
    (['--stack'], ['onedl or openmmlab']),
    (['--stakc', 'onedl'], ["'--stakc'", '--stack']),
])
def test_wrong_arguments(run, arguments, words):
    assert_sentence(run(*arguments), *words)


def test_test_command_passes_the_stack_on(run):
    assert_sentence(run('--stack=other', script='test.sh'), "'other'")


def test_old_python(run, tmp_path):
    python = program(tmp_path, 'python', 'echo 3.9')
    assert_sentence(run(PYTHON=python), 'is Python 3.9', '3.10 to 3.13')


def test_no_python(run):
    assert_sentence(run(PYTHON='/no/python'), "'/no/python' does not run")


def test_full_disk(run, tmp_path):
    python = program(tmp_path, 'python', 'echo 3.13')
    program(tmp_path, 'df', 'echo; echo d 9 9 2048000 9% /')
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    assert_sentence(run(PYTHON=python, PATH=path), '2000 MB', '6 GB')


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_everything_is_pinned(stack):
    folder = ROOT / 'tools' / 'requirements'
    text = (folder / f'{stack}.txt').read_text()
    assert '-r common.txt' in text
    text += (folder / 'common.txt').read_text()
    for line in text.splitlines():
        if line and not line.startswith(('#', '-r')):
            assert '==' in line
