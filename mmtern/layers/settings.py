"""What a user can choose about ternary weights, checked at construction."""
from dataclasses import dataclass

from ..checks import check_choice, check_flag, check_sparsity, is_number
from ..ops import SCALES

THRESHOLDS = ('mean', 'exact', 'max')
FORWARDS = ('hard', 'soft')
LEARNED_SCALES = ('ttq', )
DEFAULT_FLOOR = 0.2


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
            'max' for TTQ's ``0.05 max|w|``. 'exact' sorts every filter in
            each step, which on a CPU takes longer than the other two rules
            by a multiple.
        scale (str): 'norm' keeps each filter's norm, 'lsq' is the least
            squares scale, 'ttq' trains one scale for each sign of a channel.
            It adds a parameter ``weight_scale`` to the layer; the others
            leave the float model's keys alone.
        forward (str): 'hard' computes with ternary values, 'soft' with the
            temperature Sigmoid while training and ternary values in eval.
        min_sparsity (float): Least share of zeros in each filter, in [0, 1).
            Over a whole model, ``model_sparsity`` of :class:`mmtern.Scope`
            costs less AP.
        floor (float): Least factor, in [0, 1]; 1 is the plain
            straight-through estimator.
        normalize (bool): Divide the factor by its mean over each filter.
    """
    threshold: str = 'mean'
    scale: str = 'norm'
    forward: str = 'hard'
    min_sparsity: float = 0.0
    floor: float = DEFAULT_FLOOR
    normalize: bool = True

    def __post_init__(self) -> None:
        check_choice('threshold', self.threshold, THRESHOLDS)
        check_choice('scale', self.scale, SCALES + LEARNED_SCALES)
        check_choice('forward', self.forward, FORWARDS)
        check_sparsity('min_sparsity', self.min_sparsity)
        _check_number('floor', self.floor)
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f'floor must lie in [0, 1], but got {self.floor}')
        check_flag('normalize', self.normalize)
        if self.forward == 'soft' and self.learns_scale:
            raise ValueError(
                f"forward='soft' takes a scale of {SCALES}, but got "
                f'scale={self.scale!r}')
        if self.forward == 'soft' or self.learns_scale:
            self._refuse_factor()

    def _refuse_factor(self) -> None:
        """Both have a gradient of their own, which no factor re-scales."""
        method = ("forward='soft'"
                  if self.forward == 'soft' else f'scale={self.scale!r}')
        if self.floor not in (DEFAULT_FLOOR, 1.0) or not self.normalize:
            raise ValueError(
                f'{method} has a gradient of its own, so floor and normalize '
                f'have no effect; leave them out, but got floor={self.floor}, '
                f'normalize={self.normalize}')

    @property
    def learns_scale(self) -> bool:
        """Whether the layer holds a trained ``weight_scale``."""
        return self.scale in LEARNED_SCALES


def _check_number(name: str, value: float) -> None:
    if not is_number(value):
        raise ValueError(f'{name} must be a finite number, but got {value!r}')
