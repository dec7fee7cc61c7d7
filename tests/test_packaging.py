"""The built wheel, installed and used outside the repository."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('setuptools')

REPOSITORY = Path(__file__).parent.parent
SHIPPED = ('mmtern', 'configs', 'tools', 'setup.py', 'pyproject.toml',
           'README.md', 'MANIFEST.in', 'LICENSE')
# Tools that a user of the wheel needs.
TOOLS = {
    'train.py', 'test.py', 'test_onnx.py', 'export.py', 'detect.py',
    'report.py', 'voc2coco.py', 'dist_train.sh'
}
TRY = """
import mmtern, mmtern.report
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import HOOKS
assert mmtern.__file__.startswith({place!r}), mmtern.__file__
cfg = get_config('mmtern::configs/tern_retinanet_r50.py')
assert cfg.model.type == 'TernDetector', cfg.model
child = Config.fromfile('child.py')
assert child.model.type == 'TernDetector', child.model
assert HOOKS.build(child.default_hooks.ternary)
assert HOOKS.build(child.default_hooks.regularizer)
"""


def pip(*arguments, **kwargs) -> None:
    result = subprocess.run([
        sys.executable, '-m', 'pip', '-q', *arguments, '--no-deps',
        '--no-build-isolation', '--no-index'
    ],
                            capture_output=True,
                            text=True,
                            **kwargs)
    assert result.returncode == 0, result.stderr[-2000:]


CHILD = "_base_ = 'mmtern::configs/tern_retinanet_r50.py'"


def run(code, cwd, path):
    (cwd / 'child.py').write_text(CHILD)
    environment = dict(os.environ, PYTHONPATH=str(path))
    return subprocess.run([sys.executable, '-W', 'ignore', *code],
                          cwd=cwd,
                          env=environment,
                          capture_output=True,
                          text=True)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A clean copy of the repository: builds leave files behind."""
    root = tmp_path_factory.mktemp('source')
    for name in SHIPPED:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(
                REPOSITORY / name,
                root / name,
                ignore=shutil.ignore_patterns('__pycache__', '.mim'))
        else:
            shutil.copy(REPOSITORY / name, root / name)
    return root


@pytest.fixture(scope='module')
def installed(source, tmp_path_factory):
    root = tmp_path_factory.mktemp('wheel')
    pip('wheel', '--wheel-dir', str(root), str(source))
    (wheel, ) = root.glob('mmtern-*.whl')
    pip('install', '--target', str(root / 'site'), str(wheel))
    return root / 'site'


def test_hub_finds_the_configs_of_the_wheel(installed, tmp_path):
    if not has_report():
        pytest.skip('plotly or jinja2 is missing')
    result = run(['-c', TRY.format(place=str(installed))], tmp_path, installed)
    assert result.returncode == 0, result.stderr[-2000:]


def test_the_wheel_holds_configs_tools_and_data_files(installed, source):
    package = installed / 'mmtern'
    mim = package / '.mim'
    present = {path.name for path in (source / 'tools').iterdir()}
    assert files_below(mim / 'tools') == TOOLS & present
    assert files_below(mim / 'configs' / 'configs') == files_below(source /
                                                                   'configs')
    assert (package / 'py.typed').is_file()
    assert (package / 'report' / 'template.html').is_file()
    # mim train runs this file and looks configs up by their bare names.
    assert (mim / 'tools' / 'train.py').is_file()
    configs = mim / 'configs' / 'configs'
    names = [path.name for path in configs.glob('*.py')]
    assert names and all(len(list(package.rglob(name))) == 1 for name in names)


@pytest.mark.slow
def test_the_tools_of_the_wheel_run(installed, tmp_path):
    tool = installed / 'mmtern' / '.mim' / 'tools' / 'train.py'
    result = run([str(tool), '--help'], tmp_path, installed)
    assert result.returncode == 0 and 'launcher' in result.stdout
    result = run(
        ['-m', 'mmtern', 'inspect', 'mmtern::configs/tern_retinanet_r18.py'],
        tmp_path, installed)
    assert result.returncode == 0 and 'bits a weight' in result.stdout
    for name in ('mmtern::configs/nothing.py', 'mmtern::nothing.py'):
        result = run(['-m', 'mmtern', 'inspect', name], tmp_path, installed)
        assert result.returncode == 1 and result.stderr.count('error:') == 1


@pytest.mark.slow
def test_an_editable_install_links_to_the_repository(source, tmp_path):
    site = tmp_path / 'site'
    pip('install', '--target', str(site), '--editable', str(source))
    links = source / 'mmtern' / '.mim'
    assert (links / 'configs/configs').resolve() == source / 'configs'
    if has_report():
        # What the .pth file of a real site directory would add.
        result = run(['-c', TRY.format(place=str(source))], tmp_path,
                     f'{source}{os.pathsep}{site}')
        assert result.returncode == 0, result.stderr[-2000:]


def files_below(folder) -> set:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


def has_report() -> bool:
    from importlib.util import find_spec
    return bool(find_spec('plotly') and find_spec('jinja2'))
