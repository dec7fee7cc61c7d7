"""What a user can choose about ternary weights, checked at construction."""
from dataclasses import dataclass

from ..checks import (check_choice, check_flag, check_positive_count,
                      check_sparsity, is_number)
from ..ops import SCALES

THRESHOLDS = ('mean', 'exact', 'max')
FORWARDS = ('hard', 'soft')
RESCALES = ('update', 'gradient')
LEARNED_SCALES = ('learned', 'ttq')


@dataclass(frozen=True)
class TernarySettings:
    """How latent weights become ternary and how their gradient returns.

    The published baselines are settings of the same parts:

    - TWN (arXiv 1605.04711): ``threshold='mean', scale='lsq', floor=1.0``;
    - TTQ (arXiv 1612.01064): ``threshold='max', scale='ttq'``;
    - Quantization Networks (arXiv 1911.09464): ``threshold='mean',
      scale='lsq', forward='soft'`` with a growing temperature.

    Args:
        threshold (str): 'mean' for TWN's ``0.7 mean|w|``, next to the
            nearest ternary direction; 'exact' for that direction itself,
            'max' for TTQ's ``0.05 max|w|``.
        scale (str): 'norm' keeps each filter's norm, 'lsq' is the least
            squares scale, 'learned' trains one scale a channel, 'ttq' one
            for each sign. The learned ones add a parameter ``weight_scale``
            to the layer; the others leave the float model's keys alone.
        forward (str): 'hard' computes with ternary values, 'soft' with the
            temperature Sigmoid while training and ternary values in eval.
        min_sparsity (float): Least share of zeros in each filter, in [0, 1).
            Over a whole model, ``model_sparsity`` of :class:`mmtern.Scope`
            costs less AP.
        rescale (str): What the factor of the temperature Sigmoid re-scales.
            'gradient' as in arXiv 2212.12649; 'update' (ours) what each
            optimizer step does to the latent weight, since adaptive
            optimizers divide a gradient by its own running magnitude and
            with it most of the factor.
        reference_rms (float): Root mean square of a filter's weights at which
            an optimizer's step stays as it is; steps of other filters are in
            proportion to theirs, so that all turn by like angles. Adam's
            steps are of one size in every weight, and small filters turn
            several times as fast as large ones. 0 leaves steps alone. Ours.
        floor (float): Least factor, in [0, 1]; 1 is the plain
            straight-through estimator.
        normalize (bool): Divide the factor by its mean over each filter.
        refresh_interval (int): Optimizer steps between searches for the
            'exact' threshold, or for that of ``min_sparsity``, while training;
            in between it is followed. 10 kept all of 5,824 filters of a
            Faster R-CNN within 1e-3 of the best cosine at AdamW's 3e-4; where
            heavy-tailed filters change by more than a percent a step, take 1.
    """
    threshold: str = 'mean'
    scale: str = 'norm'
    forward: str = 'hard'
    min_sparsity: float = 0.0
    rescale: str = 'gradient'
    reference_rms: float = 0.0
    floor: float = 0.2
    normalize: bool = True
    refresh_interval: int = 10

    def __post_init__(self) -> None:
        check_choice('threshold', self.threshold, THRESHOLDS)
        check_choice('scale', self.scale, SCALES + LEARNED_SCALES)
        check_choice('forward', self.forward, FORWARDS)
        check_choice('rescale', self.rescale, RESCALES)
        check_sparsity('min_sparsity', self.min_sparsity)
        _check_number('reference_rms', self.reference_rms)
        if not self.reference_rms >= 0:
            raise ValueError('reference_rms must be at least 0, but got '
                             f'{self.reference_rms}')
        _check_number('floor', self.floor)
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f'floor must lie in [0, 1], but got {self.floor}')
        check_flag('normalize', self.normalize)
        if self.forward == 'soft' and self.scale in LEARNED_SCALES:
            raise ValueError(
                f"forward='soft' takes a scale of {SCALES}, but got "
                f'scale={self.scale!r}')
        check_positive_count('refresh_interval', self.refresh_interval)

    @property
    def rescales_updates(self) -> bool:
        """Whether the factor re-scales optimizer steps. A soft forward has
        its own gradient, as have trained scales."""
        return (self.rescale == 'update' and self.forward == 'hard'
                and not self.learns_scale)

    @property
    def rescales_steps(self) -> bool:
        """Whether anything is done to optimizer steps."""
        return self.rescales_updates or self.reference_rms > 0

    @property
    def learns_scale(self) -> bool:
        """Whether the layer holds a trained ``weight_scale``."""
        return self.scale in LEARNED_SCALES


def _check_number(name: str, value: float) -> None:
    if not is_number(value):
        raise ValueError(f'{name} must be a finite number, but got {value!r}')
