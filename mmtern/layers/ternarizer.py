"""From a latent weight to the ternary weight a layer computes with."""
from typing import TYPE_CHECKING, Callable, Optional, Tuple

import torch
from torch import Tensor

from ..ops import (CompactWeight, Projection, Rescale, codes_memory, empty_as,
                   float_rows, keep_ternary_scale, learned_scale, project,
                   rows_of, soft_ternary, straight_through, ternary_codes)
from .kept import Kept, state_of
from .rescaling import gradient_rescaler, update_rescaler
from .settings import TernarySettings
from .thresholds import Thresholds

if TYPE_CHECKING:
    from .joint import JointWeights

# Devices on which each weight is ternarized by itself: a processor's time
# goes into passes over memory, which stay in its cache so. Others wait for
# the calls that start their kernels, and take weights together.
ONE_BY_ONE = ('cpu', )


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
        joint (JointWeights, optional): Of this weight and others; see
            :func:`join`.
    """

    def __init__(self, settings: TernarySettings) -> None:
        self.settings = settings
        self.active = True
        self.temperature = 0.0
        self.joint: Optional['JointWeights'] = None
        self.reset()

    def reset(self) -> None:
        """Forget the warm start: the next projection is an exact search."""
        self._thresholds = Thresholds(self.settings)
        if self.joint is not None:
            self.joint.reset()
        self.drop_cache()

    def drop_cache(self) -> None:
        """Forget the ternary values; needed only after an edit that the
        weight's version counter does not see (``weight.data``)."""
        self._kept: Optional[Kept] = None

    def __getstate__(self) -> dict:
        # Copies and pickles start anew: a cached graph tensor can be neither.
        return dict(
            settings=self.settings,
            active=self.active,
            temperature=self.temperature)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, joint=None)
        self.reset()

    def project(self, weight: Tensor, training: bool = False) -> Projection:
        """Projection of ``weight``, shape (C_out, ...), kept until the weight
        changes.

        Args:
            training (bool): Follow the threshold from step to step instead
                of searching for the exact one.
        """
        return self.kept_of(weight, training).projection

    def is_stale(self, weight: Tensor, training: bool) -> bool:
        """Whether what is kept is not of the present ``weight``."""
        if (self._kept is None
                or self._kept.state != state_of(weight, training)):
            return True
        # While training, what has no gradient may follow a student: mmdet's
        # MeanTeacherHook writes through ``.data``, which counts no version.
        return training and not weight.requires_grad

    def keep(self, kept: Kept) -> None:
        """Take what was made of the weight together with others."""
        self._kept = kept

    def kept_of(self, weight: Tensor, training: bool) -> Kept:
        """What is kept of the present ``weight``: measured now, if it was
        not."""
        if not self.is_stale(weight, training):
            return self._kept
        if self._is_joint(weight, training):
            self.joint.measure()
            if not self.is_stale(weight, training):
                return self._kept
        memory = self._kept.codes if self._kept and training else None
        self.drop_cache()  # before its successor takes memory
        self._kept = self._measured(weight, training, memory)
        return self._kept

    def _is_joint(self, weight: Tensor, training: bool) -> bool:
        return (training and self.joint is not None
                and weight.device.type not in ONE_BY_ONE)

    @torch.no_grad()
    def _measured(self, weight: Tensor, training: bool,
                  memory: Optional[Tensor]) -> Kept:
        """The projection of ``weight``, with the codes (in ``memory``, if it
        fits) where they are sure to be asked for."""
        rows = float_rows(weight)
        threshold, factor = self._thresholds.of(rows, training)
        codes = None
        if self.active and not self._is_soft(training):
            codes = codes_memory(weight, memory)
        projection = project(rows, threshold,
                             None if codes is None else rows_of(codes), factor)
        if training:
            self._thresholds.follow(projection)
        state = state_of(weight, training)
        return Kept(weight, state, projection, codes=codes)

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

    def codes(self, weight: Tensor, training: bool = False) -> Tensor:
        """Codes in {-1, 0, +1}, shape (C_out, d), float32."""
        threshold = self.project(weight, training).threshold
        return ternary_codes(weight.detach().flatten(1).float(), threshold)

    def scale(self, weight: Tensor) -> Tensor:
        """Scale ``a`` of each filter in eval, shape (C_out, 1), float32;
        least squares where the layer trains its own."""
        return self._scale(
            float_rows(weight), self.project(weight), training=False)

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
            Tensor: Shape and dtype of ``weight``, and but for trained scales
            its memory format.
        """
        if not self.active:
            return weight
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
        if (not training or self._is_joint(weight, training) or not self.active
                or self.settings.learns_scale or self._is_soft(training)
                or not (torch.is_grad_enabled() and weight.requires_grad)):
            return None
        compact = self._compact_of(weight)
        # One zero seen as a whole weight: a place in the graph, no memory.
        zero = weight.new_zeros([1] * weight.dim())
        gate = zero.expand(weight.shape)
        return self._node_of(weight, gate, training, True), compact

    def _compact_of(self, weight: Tensor) -> CompactWeight:
        self.project(weight, True)
        if self._kept.compact is None:
            self._make(weight, True)
        return self._kept.compact

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

    def _is_soft(self, training: bool) -> bool:
        return training and self.settings.forward == 'soft'

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
