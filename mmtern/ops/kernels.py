"""Triton kernels for what takes most calls on a GPU: a row, one filter, a
program. PyTorch's own operations beside them are the reference."""
from typing import Optional, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .projection import TINY

# Most weights of a row that a program works on at once.
BLOCK = 1024


@triton.jit
def _project(weight, threshold, count, inner, norm, norm_scale, codes, d, tiny,
             of_mean, has_threshold: tl.constexpr, has_codes: tl.constexpr,
             block: tl.constexpr):
    row = tl.program_id(0)
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
        tl.store(threshold + row, cut)
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
        if has_codes:
            code = tl.where(keep, tl.where(w > 0, 1, -1), 0)
            tl.store(
                codes + start + first + lanes, code.to(tl.int8), mask=inside)
    number = tl.sum(kept)
    length = tl.sqrt(tl.sum(squares))
    tl.store(count + row, number)
    tl.store(inner + row, tl.sum(kept_sums))
    tl.store(norm + row, length)
    tl.store(norm_scale + row, length / tl.sqrt(tl.maximum(number, 1.0)))


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
def _turn(weight, cosine, threshold, count, norm, grad_output, out, d, tiny,
          least_norm, block: tl.constexpr):
    row = tl.program_id(0)
    start = row.to(tl.int64) * d
    lanes = tl.arange(0, block)
    upstream = tl.load(grad_output)
    length = tl.load(norm + row)
    inverse = tl.where(length > least_norm, 1 / length, 0.0)
    towards = -upstream * inverse / tl.sqrt(
        tl.maximum(tl.load(count + row), 1.0))
    along = upstream * tl.load(cosine + row) * (inverse * inverse)
    least = tl.maximum(tl.load(threshold + row), tiny)
    for first in range(0, d, block):
        inside = first + lanes < d
        w = tl.load(weight + start + first + lanes, mask=inside, other=0.0)
        sign = tl.where(w > 0, towards, -towards)
        turn = tl.where(tl.abs(w) >= least, sign, 0.0) + w * along
        tl.store(out + start + first + lanes, turn, mask=inside)


def project_rows(weight: Tensor, threshold: Optional[Tensor], of_mean: float,
                 codes: Optional[Tensor]) -> Tuple[Tensor, ...]:
    """What :func:`mmtern.ops.project` measures, in one kernel.

    Args:
        weight (Tensor): Rows, shape (C_out, d), contiguous, float32.
        threshold (Tensor, optional): Shape (C_out, 1); None for ``of_mean``
            times the row's mean magnitude.
        codes (Tensor, optional): Shape of ``weight``, int8; receives them.

    Returns:
        tuple: The fields of :class:`~mmtern.ops.Projection`, shape (C_out, 1)
        each.
    """
    rows, d = weight.shape
    fields = weight.new_empty(5, rows, 1).unbind()
    has_threshold = threshold is not None
    if threshold is not None:
        fields = (threshold, *fields[1:])
    with _on(weight):
        _project[(rows, )](
            weight,
            *fields,
            weight if codes is None else codes,
            d,
            TINY,
            of_mean,
            has_threshold,
            codes is not None,
            block=_block(d))
    return fields


def rescale_rows(grad: Tensor, weight: Tensor, threshold: Tensor,
                 temperature: float, floor: float, normalize: bool,
                 out: Tensor) -> None:
    """:func:`mmtern.ops.rescale_gradient` in one kernel, for contiguous
    rows."""
    rows, d = weight.shape
    with _on(weight):
        _rescale[(rows, )](
            grad,
            weight,
            threshold,
            out,
            d,
            temperature,
            floor,
            TINY,
            torch.finfo(weight.dtype).max,
            normalize,
            block=_block(d))


def turn_rows(weight: Tensor, cosine: Tensor, threshold: Tensor, count: Tensor,
              norm: Tensor, grad_output: Tensor, out: Tensor) -> None:
    """The backward of :func:`mmtern.ops.cosine_distance` in one kernel, for
    contiguous rows; ``grad_output`` is a scalar on their device."""
    rows, d = weight.shape
    with _on(weight):
        _turn[(rows, )](
            weight,
            cosine,
            threshold,
            count,
            norm,
            grad_output,
            out,
            d,
            TINY,
            TINY**0.5,
            block=_block(d))


def _block(d: int) -> int:
    return min(BLOCK, triton.next_power_of_2(d))


def _on(tensor: Tensor):
    """Kernels start on the current device, wherever their tensors are."""
    return torch.cuda.device_of(tensor)
