import os

# Set before torch is imported; subprocesses of the tests inherit it. More
# threads than cores make small convolutions several times slower.
os.environ.setdefault('OMP_NUM_THREADS', str(min(2, os.cpu_count() or 1)))
# Triton, too, reads how it is to run when it is imported.
if not os.path.exists('/dev/nvidiactl'):
    os.environ.setdefault('TRITON_INTERPRET', '1')

import mmengine.registry as mmengine_registry  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from mmengine.logging import MessageHub  # noqa: E402
from mmengine.registry import DefaultScope, Registry  # noqa: E402
from mmengine.visualization import Visualizer  # noqa: E402

torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))


@pytest.fixture
def compiled():
    """An environment for subprocesses in which Triton compiles."""
    pytest.importorskip('triton')
    return {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}


def pytest_addoption(parser):
    parser.addoption(
        '--slow',
        action='store_true',
        help='also run the tests marked slow (minutes)')


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: runs only with --slow')


def pytest_collection_modifyitems(config, items):
    if config.getoption('--slow'):
        return
    for item in items:
        if 'slow' in item.keywords:
            item.add_marker(pytest.mark.skip(reason='needs --slow'))


def _registries():
    waiting = [
        value for value in vars(mmengine_registry).values()
        if isinstance(value, Registry)
    ]
    while waiting:
        registry = waiting.pop()
        waiting.extend(registry.children.values())
        yield registry


@pytest.fixture(autouse=True)
def clean_registries():
    """Take out again what a test registers.

    Only objects defined in test modules go: classes that mmdet registers on
    a first lazy import would never come back.
    """
    yield
    for registry in _registries():
        for name, entry in list(registry.module_dict.items()):
            if entry.__module__.startswith('tests.'):
                del registry.module_dict[name]


@pytest.fixture(autouse=True)
def clean_globals():
    """Leave default scope, message hubs and visualizers as found."""
    managers = (DefaultScope, MessageHub, Visualizer)
    before = [dict(manager._instance_dict) for manager in managers]
    yield
    for manager, instances in zip(managers, before):
        manager._instance_dict.clear()
        manager._instance_dict.update(instances)
