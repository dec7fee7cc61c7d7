"""The default method written down once more, one filter after the other."""
import torch
from torch import Tensor


def literal_ternary(filters: Tensor) -> Tensor:
    """Return ``a t`` of each filter: TWN's threshold ``0.7 mean|w|`` (arXiv
    1605.04711) and the scale that keeps the norm.

    Args:
        filters (Tensor): Shape (C_out, ...), float64.
    """
    values = torch.zeros_like(filters)
    for filter_, out in zip(filters, values):
        threshold = 0.7 * sum(abs(x) for x in filter_.flatten().tolist())
        threshold /= filter_.numel()
        kept = filter_.abs() > threshold
        if kept.any():
            scale = filter_.norm() / kept.sum().sqrt()
            out[kept] = filter_[kept].sign() * scale
    return values
