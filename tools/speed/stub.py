"""A Triton driver that starts nothing, to see what a GPU's way asks of the
host where there is none: kernels are compiled for a GPU and go through all of
Triton's own Python up to the call of the driver."""
from typing import Any, Dict, List, Optional, Tuple

import torch
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver

from mmtern.ops import fused, kernels


class _Launcher:
    """Stands for a compiled kernel's call of the driver; counts them all."""
    started = 0
    record: Optional[List[Tuple]] = None

    def __init__(self, *_: Any) -> None:
        pass

    def __call__(self, *args: Any) -> None:
        _Launcher.started += 1
        if _Launcher.record is not None:
            _Launcher.record.append(args)


class _Binaries:

    def load_binary(self, *_: Any) -> Tuple:
        module, function, registers, spills, threads = self, 0, 32, 0, 1024
        return module, function, registers, spills, threads

    def get_device_properties(self, _: int) -> Dict[str, int]:
        return dict(max_shared_mem=1 << 16)


class _Driver(DriverBase):
    launcher_cls = _Launcher
    utils = _Binaries()

    def __init__(self) -> None:
        pass

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device('cpu')

    def map_python_to_cpp_type(self, name: str) -> str:
        return name

    def get_benchmarker(self) -> None:
        raise NotImplementedError


def install(record: Optional[List[Tuple]] = None) -> None:
    """Have Triton's kernels take tensors of a CPU and leave their outputs as
    they were allocated.

    Args:
        record (list, optional): Receives what the driver is told at each
            start: grid, stream, kernel, two entries for profilers, hooks and
            arguments. It keeps tensors alive.
    """
    torch.set_flush_denormal(True)  # what lies there may be slow otherwise
    # Not to be tried, as they make nothing.
    fused.KERNELS['cpu'] = kernels
    _Launcher.record = record
    if not isinstance(driver._active, _Driver):
        driver.set_active(_Driver())


def launches() -> int:
    """Return how many kernels were started so far."""
    return _Launcher.started
