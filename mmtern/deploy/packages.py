"""The optional packages of this format."""
from importlib import import_module

from packaging.version import Version

# onnx 1.20 is the first with INT2, onnxruntime 1.24 the first that runs it.
MINIMUM = dict(onnx='1.20', onnxruntime='1.24')


def check_onnx_packages() -> None:
    """Raise ``ImportError`` with what to install unless onnx and onnxruntime
    are there, recent enough."""
    for name, minimum in MINIMUM.items():
        try:
            found = import_module(name).__version__
        except ModuleNotFoundError:
            found = None
        if found is None or Version(found) < Version(minimum):
            state = 'is not installed' if found is None else f'is {found}'
            raise ImportError(f'ONNX needs {name} >= {minimum}, which '
                              f'{state}; run: pip install "mmtern[export]"')
