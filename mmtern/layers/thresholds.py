"""Which threshold a layer's filters get, by its settings."""
from typing import Optional, Tuple, Union

import torch
from torch import Tensor

from ..ops import (Projection, ThresholdRule, binned_threshold,
                   exact_threshold, max_threshold, mean_threshold,
                   sparsity_threshold)
from .settings import TernarySettings

# Filters of fewer weights are searched exactly each step: their counts lie so
# far apart that a fixed point beside the best one costs most, and layers of
# such are small.
FEW = 64


class Thresholds:
    """Thresholds of one latent weight, or of several joined, (C_out, 1).

    While training, nothing is sorted in each step. The exact one is followed
    by a fixed-point step from the last call's; where ``min_sparsity`` binds,
    by how far it stands above the free threshold. At the first call and after
    every ``refresh_interval`` calls both are searched for, since a fixed point
    may be a local optimum where filters have heavy tails.
    """

    def __init__(self, settings: TernarySettings) -> None:
        self.settings = settings
        self._next: Optional[Tensor] = None
        self._excess: Optional[Tensor] = None
        self._age = 0

    def of(
        self, rows: Tensor, training: bool
    ) -> Tuple[Union[Tensor, ThresholdRule], Optional[Tensor]]:
        """Threshold of ``rows``, shape (C_out, d), or what makes it of some
        of them, and the factor that it is then to be multiplied by."""
        settings = self.settings
        if settings.threshold == 'exact':
            if not training or rows.shape[1] < FEW:
                return exact_threshold(rows, settings.min_sparsity), None
            following = self._next
            if (following is not None and following.device == rows.device
                    and self._age < settings.refresh_interval):
                return following, None
            self._age = 0
            return binned_threshold(rows, settings.min_sparsity), None
        rule = (
            mean_threshold if settings.threshold == 'mean' else max_threshold)
        if settings.min_sparsity == 0:
            return rule, None
        excess = self._excess
        if (training and rows.shape[1] >= FEW and excess is not None
                and excess.device == rows.device
                and self._age < settings.refresh_interval):
            self._age += 1
            return rule, excess
        free = rule(rows)
        bound = sparsity_threshold(rows, settings.min_sparsity)
        if training:
            excess = torch.where(free > 0, bound / free, 1.0).clamp_min(1.0)
            self._excess, self._age = excess, 1
        return torch.maximum(free, bound), None

    def follow(self, projection: Projection) -> None:
        """One fixed-point step towards the next optimizer step's threshold,
        from what the present one gave."""
        if self.settings.threshold != 'exact':
            return
        half_mean = projection.scale('lsq') / 2
        if self.settings.min_sparsity > 0:
            # Where the constraint binds, the threshold stands above the
            # fixed point; keep the proportion of the last exact search.
            if self._age == 0:
                self._excess = torch.where(half_mean > 0,
                                           projection.threshold / half_mean,
                                           1.0)
            half_mean = half_mean * self._excess
        self._next = half_mean
        self._age += 1
