"""What pyproject.toml cannot state: requirements that follow from the
supported versions, and the files for OpenMMLab's ``mim``."""
import os
import runpy
import shutil
from glob import glob

from setuptools import setup
from setuptools.command.build_py import build_py

about = runpy.run_path('mmtern/version.py')
supported = about['SUPPORTED']
# What a user of the wheel runs; benchmarks and their results stay behind.
TOOLS = ('train.py', 'test.py', 'test_onnx.py', 'export.py', 'detect.py',
         'report.py', 'voc2coco.py', 'dist_train.sh')


def stack(prefix: str, detector: str) -> list:
    """Distributions of one line of the frameworks, in supported versions."""
    return [
        f'{prefix}mmengine{supported["mmengine"]}',
        f'{prefix}mmcv{supported["mmcv"]}',
        f'{prefix}{detector}{supported["mmdet"]}',
    ]


def not_shipped(folder: str, names: list) -> list:
    """Names in a folder that the wheel leaves out, for ``copytree``."""
    if folder == 'tools':
        return [name for name in names if name not in TOOLS]
    return [name for name in names if name == '__pycache__']


class BuildWithMim(build_py):
    """Adds what OpenMMLab's ``mim`` and ``mmengine.hub`` look for in an
    installed package: configs, tools and their index under ``.mim``.

    A wheel gets the tools that ``TOOLS`` names. An editable install gets links
    to the whole folders, so that edits show; git ignores them.
    """

    def run(self) -> None:
        super().run()
        root = 'mmtern' if self.editable_mode else os.path.join(
            self.build_lib, 'mmtern')
        mim = os.path.join(root, '.mim')
        # Nothing of an earlier build may survive a renamed config.
        shutil.rmtree(mim, ignore_errors=True)
        # mmengine wants a folder before a config's name, mmtern::configs/NAME,
        # and looks for that path below .mim/configs.
        for name, place in (('configs', 'configs/configs'), ('tools',
                                                             'tools')):
            target = os.path.join(mim, place)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if self.editable_mode:
                source = os.path.relpath(name, os.path.dirname(target))
                os.symlink(source, target)
            else:
                shutil.copytree(name, target, ignore=not_shipped)
        with open(os.path.join(mim, 'model-index.yml'), 'w') as file:
            file.write('Import: [metafile.yml]\n')
        with open(os.path.join(mim, 'metafile.yml'), 'w') as file:
            file.write('Models:\n')
            for path in sorted(glob('configs/*.py')):
                file.write(f'- {{Name: {path[8:-3]}, '
                           f'Config: configs/{path}}}\n')


setup(
    version=about['__version__'],
    cmdclass={'build_py': BuildWithMim},
    install_requires=[
        f'torch{supported["torch"]}',
        'numpy',
        'packaging',
        'safetensors>=0.4',
        'zstandard>=0.22',
    ],
    # The two stacks are extras, as they exclude each other and neither may be
    # forced on somebody who has the other.
    extras_require={
        'onedl': stack('onedl-', 'mmdetection'),
        'openmmlab': stack('', 'mmdet'),
        'export': ['onnx>=1.20', 'onnxruntime>=1.24'],
        'tensorboard': ['tensorboard'],
        'report': ['plotly', 'jinja2'],
        'test': ['pytest', 'hypothesis', 'flake8', 'isort', 'yapf', 'mypy'],
    },
)
