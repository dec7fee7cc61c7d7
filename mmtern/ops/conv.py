"""Convolutions and linear layers from int8 codes.

What a float layer saves for its backward is its input and its weight; the
float weight exists anyway, a float copy ``a t`` of it would not. So the copy
lives only while a layer runs forward or backward, and is rebuilt from the
codes, which takes a tenth of the time of making them. The layer's weight
gradient needs a place in the graph that leads to the latent weight: that is
the gradient sink, a tensor in the weight's shape and dtype. Its values are
not read, so it shares the latent weight's memory; the backward returns the
weight's gradient for it.
"""
import threading
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Pair = Tuple[int, ...]

# Most weights of a linear layer that are floats at once. The first one of a
# two-stage detector's head has 13 million of them, three times what any
# other layer has; products of smaller parts read the input too often.
PART = 1 << 22

# Most elements of a scratch buffer. It lives through the optimizer's step,
# where tensors are at their peak, and 1 << 20 saved no time that could be
# measured; without any, a step of RetinaNet-R50 takes 7 % longer.
LARGEST_SCRATCH = 1 << 18


class _Scratch(threading.local):
    """Of each thread its own: the largest buffer asked for of each dtype."""

    def __init__(self) -> None:
        self.buffers: Dict[torch.dtype, Tensor] = {}


_SCRATCH = _Scratch()


def _scratch_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return memory in ``tensor``'s shape and strides that the thread's next
    call returns again: on a CPU, to get fresh memory from the system takes
    longer than to fill it."""
    if tensor.device.type != 'cpu' or tensor.numel() > LARGEST_SCRATCH:
        return torch.empty_like(tensor, dtype=dtype)
    buffer = _SCRATCH.buffers.get(dtype)
    if buffer is None or buffer.numel() < tensor.numel():
        # Under torch.device('meta') the default is another device.
        buffer = torch.empty(tensor.numel(), dtype=dtype, device='cpu')
        _SCRATCH.buffers[dtype] = buffer
    return buffer.as_strided(tensor.shape, tensor.stride())


class QuantizedWeight(NamedTuple):
    """A ternary weight as one byte a weight.

    Attributes:
        codes: {-1, 0, +1}, int8, shape and memory format of the latent
            weight.
        scale: Of each filter, shape (C_out, 1), float32.
        sink: Gradient sink, see above; None outside training.
    """
    codes: Tensor
    scale: Tensor
    sink: Optional[Tensor] = None

    def values(self, dtype: torch.dtype, transient: bool = False) -> Tensor:
        """Return the weight ``a t`` itself, in the codes' shape.

        Args:
            dtype (torch.dtype): Of the result.
            transient (bool): Whether the caller is done with it before the
                next weight is asked for: it may lie in a scratch buffer then.
        """
        scale = self.scale.view(-1, *[1] * (self.codes.dim() - 1))
        if self.codes.device.type != 'cpu':
            return (self.codes * scale).to(dtype)
        # Two vectorized passes, faster than one that converts on the way.
        memory = _scratch_like if transient else torch.empty_like
        values = memory(self.codes, dtype=self.scale.dtype)
        values.copy_(self.codes).mul_(scale)
        return values.to(dtype)

    def parts(self) -> List['QuantizedWeight']:
        """Return the weight in consecutive filters, about ``PART`` weights
        each."""
        count = -(-self.codes.numel() // PART) or 1
        pairs = zip(self.codes.chunk(count), self.scale.chunk(count))
        return [QuantizedWeight(*pair) for pair in pairs]


class _QuantizedConv2d(torch.autograd.Function):
    """``conv2d`` whose backward rebuilds the weight; gradients are those of
    PyTorch's own, and that of the weight goes to the sink."""

    @staticmethod
    def forward(ctx, x: Tensor, sink: Tensor, bias: Optional[Tensor],
                weight: QuantizedWeight, stride: Pair, padding: Pair,
                dilation: Pair, groups: int) -> Tensor:
        options = (stride, padding, dilation)
        out = F.conv2d(x, weight.values(sink.dtype, True), bias, *options,
                       groups)
        # Under autocast the output tells the dtype that was computed in.
        ctx.save_for_backward(x.to(out.dtype), weight.codes, weight.scale)
        ctx.options, ctx.groups = options, groups
        ctx.bias_sizes = None if bias is None else bias.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        x, *weight = ctx.saved_tensors
        values = QuantizedWeight(*weight).values(x.dtype, True)
        grads = torch.ops.aten.convolution_backward(grad_output, x, values,
                                                    ctx.bias_sizes,
                                                    *ctx.options, False,
                                                    (0, 0), ctx.groups,
                                                    ctx.needs_input_grad[:3])
        return (*grads, *[None] * 5)


class _QuantizedLinear(torch.autograd.Function):
    """``linear`` in the way of :class:`_QuantizedConv2d`, of rows (N, C_in):
    of more axes PyTorch may return a view, which no layer after it could
    change in place."""

    @staticmethod
    def forward(ctx, x: Tensor, sink: Tensor, bias: Optional[Tensor],
                weight: QuantizedWeight) -> Tensor:
        parts = weight.parts()
        biases: Sequence[Optional[Tensor]] = [None] * len(parts)
        if bias is not None:
            biases = bias.chunk(len(parts))
        outs = [
            F.linear(x, part.values(sink.dtype, True), part_bias)
            for part, part_bias in zip(parts, biases)
        ]
        out = outs[0] if len(outs) == 1 else torch.cat(outs, -1)
        ctx.save_for_backward(x.to(out.dtype), weight.codes, weight.scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        x, *weight = ctx.saved_tensors
        on_x, on_weight, on_bias = ctx.needs_input_grad[:3]
        grad_x = None
        if on_x:
            grad_x = torch.empty_like(x)
            parts = QuantizedWeight(*weight).parts()
            beta = 0  # the first product overwrites what the memory held
            for part, rows in zip(parts, grad_output.chunk(len(parts), 1)):
                grad_x.addmm_(rows, part.values(x.dtype, True), beta=beta)
                beta = 1
        return (
            grad_x,
            grad_output.T @ x if on_weight else None,
            grad_output.sum(0) if on_bias else None,
            None,
        )


def quantized_conv2d(x: Tensor, weight: QuantizedWeight,
                     bias: Optional[Tensor], stride: Pair, padding: Pair,
                     dilation: Pair, groups: int) -> Tensor:
    """2D convolution that keeps codes for its backward.

    Args:
        x (Tensor): Shape (N, C_in, H, W), or (C_in, H, W).
        weight (QuantizedWeight): Codes (C_out, C_in/groups, kH, kW), with a
            gradient sink.
        bias (Tensor, optional): Shape (C_out, ).
        stride, padding, dilation, groups: Those of ``F.conv2d``.

    Returns:
        Tensor: Shape (N, C_out, H', W'), or (C_out, H', W'). Differentiable
        once.
    """
    batch = x if x.dim() == 4 else x[None]
    out = _QuantizedConv2d.apply(batch, weight.sink, bias, weight, stride,
                                 padding, dilation, groups)
    return out if x.dim() == 4 else out[0]


def quantized_linear(x: Tensor, weight: QuantizedWeight,
                     bias: Optional[Tensor]) -> Tensor:
    """Linear layer that keeps codes for its backward.

    Args:
        x (Tensor): Shape (..., C_in).
        weight (QuantizedWeight): Codes (C_out, C_in), with a gradient sink.
        bias (Tensor, optional): Shape (C_out, ).

    Returns:
        Tensor: Shape (..., C_out). Differentiable once.
    """
    rows = x.reshape(-1, x.shape[-1])
    out = _QuantizedLinear.apply(rows, weight.sink, bias, weight)
    return out.view(*x.shape[:-1], out.shape[-1])
