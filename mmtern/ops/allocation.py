"""How the zeros that a model must have are spread over its layers."""
import math
from typing import List, Sequence

import torch
from torch import Tensor

from ..checks import check_sparsity

# Thresholds for Gaussian weights, in standard deviations. The first gives the
# best cosine, 0.8999 with 46 % zeros; the last keeps one weight in 2e6.
THRESHOLDS = torch.linspace(
    0.612, 5.0, 5001, dtype=torch.float64, device='cpu')
# Share of weights kept, and the sum of their magnitudes a weight.
KEPT = torch.erfc(THRESHOLDS / math.sqrt(2))
INNER = math.sqrt(2 / math.pi) * (-THRESHOLDS**2 / 2).exp()
# d log(cos) / d kept for cos = INNER / sqrt(KEPT): what the next weight is
# worth. It rises with the threshold, from 0.
WORTH = THRESHOLDS / INNER - 1 / (2 * KEPT)


def allocate_zeros(sizes: Sequence[int], model_sparsity: float) -> List[float]:
    """Least share of zeros for each layer, such that the product over layers
    of ``cos(w, t)`` is the greatest that so many zeros allow.

    What a layer loses of its direction the next one cannot restore, so
    cosines multiply; and a small layer buys few zeros with its cosine. At the
    optimum a weight is worth the same in each layer: ``d log(cos) / d kept``
    is in proportion to the layer's size (a Lagrange multiplier). Cosines are
    those of Gaussian weights: so the result follows from the shapes alone,
    and a model that is built again, for a test or from a file, has the same.
    Ours; that large layers should be the sparser ones is known from pruning
    (ERK of arXiv 1911.11134).

    Args:
        sizes (Sequence[int]): Weights of each layer.
        model_sparsity (float): Share of zeros over all of them, in [0, 1).

    Returns:
        list[float]: Of each layer, in [0, 1). Up to 0.46, which the best
        direction has anyway, ``model_sparsity`` for all.

    Raises:
        ValueError: If ``model_sparsity`` is out of range.
    """
    check_sparsity('model_sparsity', model_sparsity)
    if model_sparsity <= 1 - KEPT[0]:
        return [model_sparsity] * len(sizes)
    # A model may be built under another default device, meta for one.
    weights = torch.tensor(sizes, dtype=torch.float64, device='cpu')
    low, high = -50.0, 20.0  # of the multiplier's logarithm
    for _ in range(60):
        middle = (low + high) / 2
        kept = _kept(weights * math.exp(middle))
        if 1 - kept @ weights / weights.sum() < model_sparsity:
            low = middle
        else:
            high = middle
    return (1 - _kept(weights * math.exp(high))).tolist()


def _kept(worth: Tensor) -> Tensor:
    index = torch.searchsorted(WORTH, worth)
    return KEPT[index.clamp_max(len(KEPT) - 1)]
