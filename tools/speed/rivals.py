"""What ternarization costs when written as the paper is read."""
import torch
from torch import Tensor


class _LiteralTWN(torch.autograd.Function):
    """TWN, channel by channel in a Python loop, as detectors that publish
    their code do it."""

    @staticmethod
    def forward(ctx, weight: Tensor) -> Tensor:
        out = torch.empty_like(weight)
        for channel in range(weight.shape[0]):
            row = weight[channel]
            threshold = 0.7 * row.abs().mean()
            kept = row.abs() > threshold
            scale = row.abs()[kept].mean()
            out[channel] = scale * row.sign() * kept
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


def literal_twn(weight: Tensor) -> Tensor:
    """Ternary Weight Networks (arXiv 1605.04711), one output channel after
    the other; plain straight-through gradient."""
    return _LiteralTWN.apply(weight)
