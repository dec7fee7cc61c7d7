"""Ternary weights as one byte a weight, and layers that compute with them.

What a float layer saves for its backward is its input and its weight; the
float weight exists anyway, a ternary copy of it would not. So the copy lives
only while a layer runs forward or backward and is rebuilt from the codes,
which takes a tenth of the time of making them.
"""
from typing import List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .scratch import scratch_like

Pair = Tuple[int, int]

# Most weights of a linear layer that are floats at once. The first one of a
# two-stage detector's head has 13 million of them, three times what any
# other layer has; products of smaller parts read the input too often.
PART = 1 << 22


class CompactWeight(NamedTuple):
    """A ternary weight between forward and backward.

    Attributes:
        codes: {-1, 0, +1}, int8, shape and memory format of the latent
            weight.
        scale: Of each filter, shape (C_out, 1), float32.
    """
    codes: Tensor
    scale: Tensor

    def values(self, dtype: torch.dtype, transient: bool = False) -> Tensor:
        """The weight itself, in the codes' shape.

        Args:
            transient (bool): Whether the caller is done with it before the
                next weight is asked for; see :func:`scratch_like`.
        """
        scale = self.scale.view(-1, *[1] * (self.codes.dim() - 1))
        if self.codes.device.type != 'cpu':
            return (self.codes * scale).to(dtype)
        # Two vectorized passes, faster than one that converts on the way.
        memory = scratch_like if transient else torch.empty_like
        values = memory(self.codes, dtype=self.scale.dtype)
        values.copy_(self.codes).mul_(scale)
        return values.to(dtype)

    def parts(self) -> List['CompactWeight']:
        """The weight in consecutive filters, about ``PART`` weights each."""
        count = -(-self.codes.numel() // PART) or 1
        pairs = zip(self.codes.chunk(count), self.scale.chunk(count))
        return [CompactWeight(*pair) for pair in pairs]


class _CompactConv2d(torch.autograd.Function):
    """``conv2d`` whose backward rebuilds the weight; gradients are those of
    PyTorch's own, and that of the weight goes to ``gate``."""

    @staticmethod
    def forward(ctx, x: Tensor, gate: Tensor, bias: Optional[Tensor],
                weight: CompactWeight, stride: Pair, padding: Pair,
                dilation: Pair, groups: int) -> Tensor:
        options = (stride, padding, dilation)
        out = F.conv2d(x, weight.values(gate.dtype, True), bias, *options,
                       groups)
        # Under autocast the output tells the dtype that was computed in.
        ctx.save_for_backward(x.to(out.dtype), *weight)
        ctx.options, ctx.groups = options, groups
        ctx.bias_sizes = None if bias is None else bias.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        x, *weight = ctx.saved_tensors
        values = CompactWeight(*weight).values(x.dtype, True)
        grads = torch.ops.aten.convolution_backward(grad_output, x, values,
                                                    ctx.bias_sizes,
                                                    *ctx.options, False,
                                                    (0, 0), ctx.groups,
                                                    ctx.needs_input_grad[:3])
        return (*grads, *[None] * 5)


class _CompactLinear(torch.autograd.Function):
    """``linear`` in the way of :class:`_CompactConv2d`."""

    @staticmethod
    def forward(ctx, x: Tensor, gate: Tensor, bias: Optional[Tensor],
                weight: CompactWeight) -> Tensor:
        parts = weight.parts()
        biases = [None] * len(parts)
        if bias is not None:
            biases = bias.chunk(len(parts))
        outs = [
            F.linear(x, part.values(gate.dtype, True), part_bias)
            for part, part_bias in zip(parts, biases)
        ]
        out = outs[0] if len(outs) == 1 else torch.cat(outs, -1)
        ctx.save_for_backward(x.to(out.dtype), *weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        x, *weight = ctx.saved_tensors
        on_x, on_weight, on_bias = ctx.needs_input_grad[:3]
        rows = grad_output.reshape(-1, grad_output.shape[-1])
        grad_x = None
        if on_x:
            grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
            parts = CompactWeight(*weight).parts()
            beta = 0  # the first product overwrites what the memory held
            for part, part_rows in zip(parts, rows.chunk(len(parts), 1)):
                grad_x.view(-1, x.shape[-1]).addmm_(
                    part_rows, part.values(x.dtype, True), beta=beta)
                beta = 1
        return (
            grad_x,
            rows.T @ x.reshape(-1, x.shape[-1]) if on_weight else None,
            rows.sum(0) if on_bias else None,
            None,
        )


def compact_conv2d(x: Tensor, gate: Tensor, weight: CompactWeight,
                   bias: Optional[Tensor], stride: Pair, padding: Pair,
                   dilation: Pair, groups: int) -> Tensor:
    """2D convolution that keeps codes for its backward.

    Args:
        x (Tensor): Shape (N, C_in, H, W).
        gate (Tensor): Shape and dtype of the latent weight, values unused;
            receives the weight's gradient.
        weight (CompactWeight): Codes (C_out, C_in/groups, kH, kW).
        bias (Tensor, optional): Shape (C_out, ).
        stride, padding, dilation, groups: Those of ``F.conv2d``.

    Returns:
        Tensor: Shape (N, C_out, H', W'). Differentiable once.
    """
    return _CompactConv2d.apply(x, gate, bias, weight, stride, padding,
                                dilation, groups)


def compact_linear(x: Tensor, gate: Tensor, weight: CompactWeight,
                   bias: Optional[Tensor]) -> Tensor:
    """Linear layer that keeps codes for its backward.

    Args:
        x (Tensor): Shape (..., C_in).
        gate (Tensor): As in :func:`compact_conv2d`.
        weight (CompactWeight): Codes (C_out, C_in).
        bias (Tensor, optional): Shape (C_out, ).

    Returns:
        Tensor: Shape (..., C_out). Differentiable once.
    """
    return _CompactLinear.apply(x, gate, bias, weight)
