import runpy

from setuptools import find_packages, setup

about = runpy.run_path('mmtern/version.py')
supported = about['SUPPORTED']


def stack(prefix: str, detector: str) -> list:
    """Distributions of one line of the frameworks, in supported versions."""
    return [
        f'{prefix}mmengine{supported["mmengine"]}',
        f'{prefix}mmcv{supported["mmcv"]}',
        f'{prefix}{detector}{supported["mmdet"]}',
    ]


setup(
    name='mmtern',
    version=about['__version__'],
    description='Ternary-weight training for MMDetection',
    license='Apache-2.0',
    packages=find_packages(include=['mmtern', 'mmtern.*']),
    package_data={'mmtern': ['py.typed']},
    python_requires='>=3.10',
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
        'report': ['matplotlib', 'plotly', 'jinja2'],
        'test': ['pytest', 'hypothesis', 'flake8', 'isort', 'yapf'],
    },
)
