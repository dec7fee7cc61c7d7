"""From a latent weight to the ternary weight a layer computes with."""
from typing import Callable, Optional, Tuple

import torch
from torch import Tensor

from ..ops import (CompactWeight, Rescale, empty_as, float_rows, learned_scale,
                   rows_of, soft_ternary, straight_through)
from .projector import Projector
from .rescaling import gradient_rescaler, update_rescaler


class Ternarizer(Projector):
    """Makes of a latent weight, as it was measured, what a layer computes
    with, and of its gradient or update what the weight receives."""

    def __call__(self,
                 weight: Tensor,
                 weight_scale: Optional[Tensor] = None,
                 training: bool = False) -> Tensor:
        """The weight to compute with.

        Args:
            weight (Tensor): Latent weight, (C_out, C_in/groups, kH, kW) or
                (C_out, C_in).
            weight_scale (Tensor, optional): Trained scales, (1 or 2, C_out).
            training (bool): The layer's mode.

        Returns:
            Tensor: Shape and dtype of ``weight``, and but for trained scales
            its memory format.
        """
        if not self.active:
            return weight
        if training and self.share < 1:
            values = self._compact_of(weight).values(weight.dtype)
            return weight + (values - weight.detach()).mul_(self.share)
        kept = self.kept_of(weight, training)
        if weight_scale is not None:
            values = learned_scale(weight, weight_scale.float(),
                                   kept.all_codes().flatten(1))
            return values.to(weight.dtype)
        gradient = torch.is_grad_enabled() and weight.requires_grad
        soft = self._is_soft(training)
        if training and not soft and kept.values is None:
            values = self._compact_of(weight).values(weight.dtype)
            if not gradient:
                return values
            return straight_through(weight, values,
                                    self._rescale(weight, training))
        stale = soft and kept.node_temperature != self.temperature
        if kept.values is None or stale:
            self._make(weight, training)
        if not gradient:
            return kept.values
        return self._node_of(weight, kept.values, training)

    def compact(self, weight: Tensor,
                training: bool) -> Optional[Tuple[Tensor, CompactWeight]]:
        """The weight in a training step, for a layer that keeps no float
        copy of it until its backward.

        Returns:
            tuple or None: A gate of ``weight``'s shape and dtype, to which
            the layer gives the weight's gradient, and the weight. None where
            the layer must compute with the result of a call: in the approach
            phase, without gradient, with a soft forward or trained scales,
            and where weights are ternarized together.
        """
        if (not training or self.share < 1 or self._is_joint(weight, training) or not self.active
                or self.settings.learns_scale or self._is_soft(training)
                or not (torch.is_grad_enabled() and weight.requires_grad)):
            return None
        compact = self._compact_of(weight)
        # One zero seen as a whole weight: a place in the graph, no memory.
        zero = weight.new_zeros([1] * weight.dim())
        gate = zero.expand(weight.shape)
        return self._node_of(weight, gate, training, True), compact

    def _compact_of(self, weight: Tensor) -> CompactWeight:
        kept = self.kept_of(weight, True)
        if kept.compact is None:
            self._make(weight, True)
        return kept.compact

    def _node_of(self,
                 weight: Tensor,
                 values: Tensor,
                 training: bool,
                 gate: bool = False) -> Tensor:
        """``values`` in the graph, kept for the step's other uses."""
        kept = self._kept
        if kept.node is not None and kept.node_temperature == self.temperature:
            return kept.node
        if kept.connect is not None:
            kept.connect(self.temperature)
        else:
            kept.node = straight_through(weight, values,
                                         self._rescale(weight, training, gate))
            kept.node_temperature = self.temperature
        return kept.node

    @torch.no_grad()
    def _make(self, weight: Tensor, training: bool) -> None:
        """Compute and keep the ternary weight of the last projection."""
        rows, kept = float_rows(weight), self._kept
        scale = self._scale(rows, kept.projection, training)
        if self._is_soft(training):
            kept.values = empty_as(weight)
            rows_of(kept.values).copy_(
                soft_ternary(rows, kept.projection.threshold, scale,
                             self.temperature))
            return
        compact = CompactWeight(kept.all_codes(), scale)
        if training:
            kept.compact = compact
        else:
            kept.values, kept.codes = compact.values(weight.dtype), None

    def _rescale(self,
                 weight: Tensor,
                 training: bool,
                 gate: bool = False) -> Rescale:
        """What the gradient of this step's ternary weight goes through; that
        of a gate comes from our own layers alone and may be overwritten."""
        return gradient_rescaler(self.settings, weight.detach(),
                                 self._kept.projection, self.temperature,
                                 self._is_soft(training), gate)

    def update_rescaler(self, weight: Tensor) -> Optional[Callable[[], None]]:
        """What to call after an optimizer step to have it re-scaled, asked
        for before the step; None where it stays as it is."""
        settings = self.settings
        temperature = self.temperature if settings.rescales_updates else 0.0
        if (not self.active or weight.grad is None
                or not (temperature or settings.reference_rms)):
            return None
        return update_rescaler(settings, weight, self.project(weight, True),
                               temperature)
