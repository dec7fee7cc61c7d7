"""The distribution of zeros over the layers of a model with a given
sparsity."""
import math
from typing import List, Sequence

import torch
from torch import Tensor

from ..checks import check_sparsity

# Thresholds for Gaussian weights, in standard deviations. The first gives the
# best cosine, 0.8999 with 46 % zeros; the last leaves one weight in 2e6.
THRESHOLDS = torch.linspace(
    0.612, 5.0, 5001, dtype=torch.float64, device='cpu')
# For each threshold the share of weights that are not zero, and the sum of
# their magnitudes over the number of all weights.
NONZERO = torch.erfc(THRESHOLDS / math.sqrt(2))
INNER = math.sqrt(2 / math.pi) * (-THRESHOLDS**2 / 2).exp()
# The gain of one more non-zero weight, d log(cos) / d NONZERO with cos = INNER
# / sqrt(NONZERO). It rises with the threshold, from 0.
GAIN = THRESHOLDS / INNER - 1 / (2 * NONZERO)


def allocate_zeros(sizes: Sequence[int], model_sparsity: float) -> List[float]:
    """Return the least share of zeros for each layer that maximizes the
    product of ``cos(w, t)`` over the layers under a given sparsity of the
    model.

    Cosines multiply, because a layer cannot restore the direction that the
    one before it has lost; and zeros in a small layer lower the product as
    much as many more zeros in a large one. At the optimum one more non-zero
    weight has the same gain in each layer: ``d log(cos) / d share`` of the
    non-zero weights is proportional to the layer's size (a Lagrange
    multiplier). The cosines are those of Gaussian weights, so that the result
    depends on the shapes alone and is the same for a model that is built
    again, for a test or from a file. The method is ours; that large layers
    should be the sparser ones is known from pruning (ERK of arXiv
    1911.11134).

    Args:
        sizes (Sequence[int]): Weights of each layer.
        model_sparsity (float): Share of zeros over all of them, in [0, 1).

    Returns:
        list[float]: The share of each layer, in [0, 1). It is
        ``model_sparsity`` for all layers up to 0.46, the share of zeros in
        the best direction.

    Raises:
        ValueError: If ``model_sparsity`` is out of range.
    """
    check_sparsity('model_sparsity', model_sparsity)
    if model_sparsity <= 1 - NONZERO[0]:
        return [model_sparsity] * len(sizes)
    # A model may be built under another default device, meta for one.
    weights = torch.tensor(sizes, dtype=torch.float64, device='cpu')
    low, high = -50.0, 20.0  # of the multiplier's logarithm
    for _ in range(60):
        middle = (low + high) / 2
        nonzero = _nonzero_share(weights * math.exp(middle))
        if 1 - nonzero @ weights / weights.sum() < model_sparsity:
            low = middle
        else:
            high = middle
    return (1 - _nonzero_share(weights * math.exp(high))).tolist()


def _nonzero_share(gain: Tensor) -> Tensor:
    index = torch.searchsorted(GAIN, gain)
    return NONZERO[index.clamp_max(len(NONZERO) - 1)]
