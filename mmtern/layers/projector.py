"""What is measured of a latent weight, once per change."""
from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor

from ..ops import (Projection, codes_memory, float_rows, keep_ternary_scale,
                   project, rows_of, ternary_codes)
from .kept import Kept, state_of
from .settings import TernarySettings
from .thresholds import Thresholds

if TYPE_CHECKING:
    from .joint import JointWeights

# Devices on which each weight is ternarized by itself: a processor's time
# goes into passes over memory, which stay in its cache so. Others wait for
# the calls that start their kernels, and take weights together.
ONE_BY_ONE = ('cpu', )


class Projector:
    """Projects one latent weight onto ternary directions, once per change of
    that weight, and keeps what was made of it.

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
        self.share = 1.0
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
            share=self.share,
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

    def _is_soft(self, training: bool) -> bool:
        return training and self.settings.forward == 'soft'
