"""Triton kernels for what takes most calls on a GPU: a row, one filter, a
program. PyTorch's own operations beside them are the reference."""
from typing import Any, Dict, Optional, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .projection import TINY

# Most weights of a row that a program works on at once.
BLOCK = 1024

# Compiled kernels by what they were compiled for; None where Triton
# interprets.
COMPILED: Dict[Tuple, Any] = {}

# Whether compiled kernels take all arguments of their function; until Triton
# 3.2 without those known when it was compiled.
TAKES_CONSTANTS = tuple(map(int, triton.__version__.split('.')[:2])) >= (3, 3)

LARGEST = torch.finfo(torch.float32).max


@triton.jit
def _project(weight, threshold, fields, out, d, tiny, of_mean, beta,
             has_threshold: tl.constexpr, makes: tl.constexpr,
             block: tl.constexpr):
    row = tl.program_id(0)
    rows = tl.num_programs(0)
    start = row.to(tl.int64) * d
    lanes = tl.arange(0, block)
    sums = tl.zeros([block], tl.float32)
    squares = tl.zeros([block], tl.float32)
    for first in range(0, d, block):
        inside = first + lanes < d
        w = tl.load(weight + start + first + lanes, mask=inside, other=0.0)
        sums += tl.abs(w)
        squares += w * w
    if has_threshold:
        cut = tl.load(threshold + row)
    else:
        cut = tl.sum(sums) / d * of_mean
    least = tl.maximum(cut, tiny)
    kept = tl.zeros([block], tl.float32)
    kept_sums = tl.zeros([block], tl.float32)
    for first in range(0, d, block):
        inside = first + lanes < d
        w = tl.load(weight + start + first + lanes, mask=inside, other=0.0)
        magnitude = tl.abs(w)
        keep = magnitude >= least
        kept += tl.where(keep, 1.0, 0.0)
        kept_sums += tl.where(keep, magnitude, 0.0)
        if makes == 'codes':
            code = tl.where(keep, tl.where(w > 0, 1, -1), 0)
            tl.store(out + start + first + lanes, code.to(tl.int8), inside)
    number = tl.sum(kept)
    inner = tl.sum(kept_sums)
    length = tl.sqrt(tl.sum(squares))
    norm_scale = length / tl.sqrt(tl.maximum(number, 1.0))
    tl.store(fields + row, cut)
    tl.store(fields + rows + row, number)
    tl.store(fields + 2 * rows + row, inner)
    tl.store(fields + 3 * rows + row, length)
    tl.store(fields + 4 * rows + row, norm_scale)
    if makes == 'norm' or makes == 'lsq':
        scale = norm_scale
        if makes == 'lsq':
            scale = inner / tl.maximum(number, 1.0)
        for first in range(0, d, block):
            inside = first + lanes < d
            w = tl.load(weight + start + first + lanes, mask=inside, other=0.0)
            values = tl.where(w > 0, scale, -scale)
            # A NaN scale spoils the whole filter, zeros included.
            values = tl.where(tl.abs(w) >= least, values, 0.0 * scale)
            # As torch.lerp, so that beta = 1 gives a t to the last bit.
            way = values - w
            values = tl.where(beta < 0.5, w + beta * way,
                              values - (1 - beta) * way)
            tl.store(out + start + first + lanes, values, inside)


@triton.jit
def _factor(w, slope, temperature, floor):
    s = tl.sigmoid(tl.abs(w) * slope - temperature)
    return floor + (1 - floor) * 4 * (s - s * s)


@triton.jit
def _rescale(grad, weight, threshold, out, d, temperature, floor, tiny,
             largest, normalize: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0)
    start = row.to(tl.int64) * d
    lanes = tl.arange(0, block)
    slope = temperature / tl.maximum(tl.load(threshold + row), tiny)
    slope = tl.minimum(slope, largest)
    gain = 1.0
    if normalize:
        sums = tl.zeros([block], tl.float32)
        for first in range(0, d, block):
            inside = first + lanes < d
            w = tl.load(weight + start + first + lanes, mask=inside, other=0.0)
            factor = _factor(w, slope, temperature, floor)
            sums += tl.where(inside, factor, 0.0)
        gain = 1 / tl.maximum(tl.sum(sums) / d, tiny)
    for first in range(0, d, block):
        inside = first + lanes < d
        w = tl.load(weight + start + first + lanes, mask=inside, other=0.0)
        factor = _factor(w, slope, temperature, floor) * gain
        g = tl.load(grad + start + first + lanes, mask=inside, other=0.0)
        tl.store(out + start + first + lanes, g * factor, mask=inside)


@triton.jit
def _turn(weight, threshold, towards, along, out, d, tiny,
          block: tl.constexpr):
    row = tl.program_id(0)
    start = row.to(tl.int64) * d
    lanes = tl.arange(0, block)
    least = tl.maximum(tl.load(threshold + row), tiny)
    step = tl.load(towards + row)
    share = tl.load(along + row)
    for first in range(0, d, block):
        inside = first + lanes < d
        w = tl.load(weight + start + first + lanes, mask=inside, other=0.0)
        sign = tl.where(w > 0, step, -step)
        turn = tl.where(tl.abs(w) >= least, sign, 0.0) + w * share
        tl.store(out + start + first + lanes, turn, mask=inside)


def project_rows(weight: Tensor,
                 threshold: Optional[Tensor],
                 of_mean: float,
                 out: Optional[Tensor] = None,
                 makes: str = 'codes',
                 beta: float = 1.0) -> Tensor:
    """What :func:`mmtern.ops.project` measures, in one kernel, and what a
    layer computes with.

    Args:
        weight (Tensor): Filters, (C_out, ...), each contiguous after the one
            before it, float32.
        threshold (Tensor, optional): Shape (C_out, 1); None for ``of_mean``
            times the filter's mean magnitude.
        out (Tensor, optional): Laid out as ``weight``; receives what
            ``makes`` says.
        makes (str): 'codes'; or 'norm' or 'lsq', a kind of scale ``a``, for
            ``w + beta (a t - w)``.
        beta (float): See there.

    Returns:
        Tensor: The fields of :class:`~mmtern.ops.Projection`, shape (5,
        C_out, 1).
    """
    fields = weight.new_empty(5, weight.shape[0], 1)
    tensors = (weight, fields if threshold is None else threshold, fields,
               fields if out is None else out)
    _start(_project, weight, tensors, (TINY, of_mean, float(beta)),
           (threshold is not None, 'nothing' if out is None else makes))
    return fields


def rescale_rows(grad: Tensor, weight: Tensor, threshold: Tensor,
                 temperature: float, floor: float, normalize: bool,
                 out: Tensor) -> None:
    """:func:`mmtern.ops.rescale_gradient` in one kernel; ``weight`` as in
    :func:`project_rows`, ``grad`` and ``out`` laid out like it."""
    _start(_rescale, weight, (grad, weight, threshold, out),
           (float(temperature), float(floor), TINY, LARGEST), (normalize, ))


def turn_rows(weight: Tensor, threshold: Tensor, towards: Tensor,
              along: Tensor, out: Tensor) -> None:
    """``out = towards t + along w`` in one kernel; ``weight`` as in
    :func:`project_rows`, ``out`` laid out like it, the others (C_out, 1)."""
    _start(_turn, weight, (weight, threshold, towards, along, out), (TINY, ),
           ())


def _start(kernel: Any, weight: Tensor, tensors: Tuple[Tensor, ...],
           numbers: Tuple[float, ...], constants: Tuple) -> None:
    """Run a kernel, each filter of ``weight`` a program.

    To look up by its arguments what it compiled takes Triton longer than
    PyTorch takes for an operation. So it is looked up here, by less: numbers
    are floats always, and memory that does not begin at a multiple of 16
    bytes, for which Triton compiles anew, is left to Triton.
    """
    rows = weight.shape[0]
    d = weight.numel() // rows
    block = min(BLOCK, 1 << (d - 1).bit_length())
    args = (*tensors, d, *numbers, *constants, block)
    key: Any = (kernel.__name__, weight.device, d, constants,
                *[x.dtype for x in tensors])
    for tensor in tensors:
        if tensor.data_ptr() % 16:
            key = None
    compiled = COMPILED.get(key)
    # Kernels start on the current device, wherever their tensors are.
    with torch.cuda.device_of(weight):
        if compiled is not None:
            compiled[rows, 1, 1](*args)
            return
        compiled = kernel[(rows, )](*args)
    if TAKES_CONSTANTS and key is not None:
        COMPILED[key] = compiled
