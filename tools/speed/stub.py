"""Kernels that write and compute nothing, to see what a GPU's way asks of the
host where there is none. A Triton launch takes longer than what stands for it
here."""
from typing import Any, Tuple

from torch import Tensor


def project_rows(weight: Tensor, *_: Any) -> Tuple[Tensor, ...]:
    fields = weight.new_empty(5, len(weight), 1).unbind()
    fields[0].zero_()
    return fields


def rescale_rows(*args: Any) -> None:
    args[-1].zero_()


turn_rows = rescale_rows
