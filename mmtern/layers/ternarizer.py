"""From a latent weight to the ternary weight a layer computes with."""
from typing import Optional

import torch
from torch import Tensor

from ..ops import (Projection, exact_threshold, keep_ternary_scale,
                   learned_scale, max_threshold, mean_threshold, project,
                   rescale_factor, soft_ternary, soft_ternary_slope,
                   sparsity_threshold, straight_through, ternary_codes)
from .settings import TernarySettings


class Ternarizer:
    """Ternarizes one latent weight, once per change of that weight.

    Plain object beside the layer: it holds nothing that a checkpoint needs.
    The threshold of the last step is a warm start only; a fresh object
    begins with the exact search, as does one after :meth:`reset`.

    Args:
        settings (TernarySettings): The method.

    Attributes:
        active (bool): False lets the latent weight through (approach phase).
        temperature (float): ``T`` of the gradient factor, or of the soft
            forward; set by the schedule.
    """

    def __init__(self, settings: TernarySettings) -> None:
        self.settings = settings
        self.active = True
        self.temperature = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget the warm start: the next projection is an exact search."""
        self._warm_threshold: Optional[Tensor] = None
        self._age = 0
        self.drop_cache()

    def drop_cache(self) -> None:
        """Forget the ternary values; needed only after an edit that the
        weight's version counter does not see (``weight.data``)."""
        self._key = None
        self._latent: Optional[Tensor] = None
        self._projection: Optional[Projection] = None
        self._codes: Optional[Tensor] = None
        self._values: Optional[Tensor] = None
        self._node: Optional[Tensor] = None
        self._node_temperature = 0.0

    def __getstate__(self) -> dict:
        # Copies and pickles start anew: a cached graph tensor can be neither.
        return dict(
            settings=self.settings,
            active=self.active,
            temperature=self.temperature)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.reset()

    def project(self, weight: Tensor, training: bool = False) -> Projection:
        """Projection of ``weight``, shape (C_out, ...), kept until the weight
        changes.

        Args:
            training (bool): Follow the threshold from step to step instead
                of searching for the exact one.
        """
        version = 0 if weight.is_inference() else weight._version
        key = (weight.data_ptr(), version, weight.dtype, weight.device,
               training, torch.is_inference_mode_enabled())
        # While training, what has no gradient may follow a student: mmdet's
        # MeanTeacherHook writes through ``.data``, which counts no version.
        followed = training and not weight.requires_grad
        if key != self._key or followed:
            self.drop_cache()
            with torch.no_grad():
                rows = weight.detach().flatten(1).float()
                threshold = self._threshold(rows, training)
                codes = ternary_codes(rows, threshold)
                self._projection = project(rows, threshold, codes)
                if training and self.settings.threshold == 'exact':
                    self._follow(self._projection)
                if self.settings.learns_scale:
                    self._codes = codes
                elif self.active and not self._is_soft(training):
                    # In place: the codes are not needed any more.
                    codes.mul_(
                        self._scale(rows, self._projection, training))
                    self._values = codes.view_as(weight).to(weight.dtype)
            self._key = key
            # Held so that its address cannot be handed to another tensor
            # while the key stands for it.
            self._latent = weight.detach()
        return self._projection

    def _threshold(self, rows: Tensor, training: bool) -> Tensor:
        settings = self.settings
        if settings.threshold == 'exact':
            warm = self._warm_threshold
            if (training and warm is not None and warm.device == rows.device
                    and self._age < settings.refresh_interval):
                return warm
            if training:
                self._age = 0
            return exact_threshold(rows, settings.min_sparsity)
        rule = (
            mean_threshold if settings.threshold == 'mean' else max_threshold)
        threshold = rule(rows)
        if settings.min_sparsity > 0:
            threshold = torch.maximum(
                threshold, sparsity_threshold(rows, settings.min_sparsity))
        return threshold

    def _follow(self, projection: Projection) -> None:
        """One fixed-point step towards the next optimizer step's
        threshold."""
        half_mean = projection.scale('lsq') / 2
        if self.settings.min_sparsity > 0:
            # Where the constraint binds, the threshold stands above the
            # fixed point; keep the proportion of the last exact search.
            if self._age == 0:
                self._excess = torch.where(half_mean > 0,
                                           projection.threshold / half_mean,
                                           1.0)
            half_mean = half_mean * self._excess
        self._warm_threshold = half_mean
        self._age += 1

    def codes(self, weight: Tensor, training: bool = False) -> Tensor:
        """Codes in {-1, 0, +1}, shape (C_out, d), float32."""
        threshold = self.project(weight, training).threshold
        return ternary_codes(weight.detach().flatten(1).float(), threshold)

    def scale(self, weight: Tensor) -> Tensor:
        """Scale ``a`` of each filter in eval, shape (C_out, 1), float32;
        least squares where the layer trains its own."""
        rows = weight.detach().flatten(1).float()
        return self._scale(rows, self.project(weight), training=False)

    def _scale(self, rows: Tensor, projection: Projection,
               training: bool) -> Tensor:
        learned = self.settings.learns_scale
        scale = projection.scale('lsq' if learned else self.settings.scale)
        # While training, a last bit is not worth a pass over the weights.
        return scale if training else keep_ternary_scale(rows, scale)

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
            Tensor: Shape and dtype of ``weight``.
        """
        if not self.active:
            return weight
        projection = self.project(weight, training)
        if weight_scale is not None:
            return learned_scale(weight, weight_scale.float(),
                                 self._codes).to(weight.dtype)
        soft = self._is_soft(training)
        stale = soft and self._node_temperature != self.temperature
        if self._values is None or stale:
            with torch.no_grad():
                self._values = self._compute(weight, projection, training)
        if not (torch.is_grad_enabled() and weight.requires_grad):
            return self._values
        if self._node is None or self._node_temperature != self.temperature:
            self._node = straight_through(
                weight, self._values,
                self._gradient_factor(weight, projection, soft))
            self._node_temperature = self.temperature
        return self._node

    def _is_soft(self, training: bool) -> bool:
        return training and self.settings.forward == 'soft'

    def _compute(self, weight: Tensor, projection: Projection,
                 training: bool) -> Tensor:
        rows = weight.detach().flatten(1).float()
        scale = self._scale(rows, projection, training)
        if self._is_soft(training):
            values = soft_ternary(rows, projection.threshold, scale,
                                  self.temperature)
        else:
            values = ternary_codes(rows, projection.threshold).mul_(scale)
        return values.view_as(weight).to(weight.dtype)

    def _gradient_factor(self, weight: Tensor, projection: Projection,
                         soft: bool):
        settings, temperature = self.settings, self.temperature
        latent = weight.detach()

        def factor() -> Optional[Tensor]:
            rows = latent.flatten(1).float()
            if soft:
                return soft_ternary_slope(rows, projection.threshold,
                                          projection.scale(settings.scale),
                                          temperature)
            return rescale_factor(rows, projection.threshold, temperature,
                                  settings.floor, settings.normalize)

        return factor
