"""Where the run switched from approach to ternary."""
from dataclasses import dataclass
from typing import List, Optional

from .work_dir import WorkDir


@dataclass(frozen=True)
class Phases:
    """Switches of the schedule.

    Attributes:
        iterations: At which layers turn ternary, ascending; several where
            the schedule is staged.
        epoch_length: Iterations an epoch, None where no checkpoint tells it.
        switches: Whether there was an approach phase at all.
        sentence: What was found, for the page.
    """
    iterations: List[int]
    epoch_length: Optional[int]
    switches: bool
    sentence: str

    @property
    def epochs(self) -> List[float]:
        """``iterations`` in epochs; empty where their length is not
        known."""
        if not self.epoch_length:
            return []
        return [step / self.epoch_length for step in self.iterations]


def find_phases(run: WorkDir, meta: dict) -> Phases:
    """Read the switches from the config's schedule hook.

    Args:
        run (WorkDir): With a config.
        meta (dict): ``meta`` of one of its checkpoints: ``epoch`` and
            ``iter``.
    """
    length = None
    if meta.get('epoch') and meta.get('iter'):
        length = meta['iter'] // meta['epoch']
    config = run.config or {}
    hooks = list((config.get('default_hooks') or {}).values())
    hooks += config.get('custom_hooks') or []
    hooks = [
        h for h in hooks if h and 'TernaryScheduleHook' in str(h.get('type'))
    ]
    if not hooks:
        return Phases([], length, False,
                      'The config has no TernaryScheduleHook: '
                      'the weights were ternary all the time.')
    begin = hooks[0].get('begin', 0)
    by_epoch = hooks[0].get('by_epoch', True)
    starts = sorted(set(begin.values())) if (isinstance(begin,
                                                        dict)) else [begin]
    starts = [start for start in starts if start > 0]
    if not starts:
        return Phases([], length, False, 'There was no approach phase: the '
                      'weights were ternary from the first iteration.')
    unit = 'epoch' if by_epoch else 'iteration'
    sentence = (f'Layers turned ternary after {unit} '
                f'{", ".join(map(str, starts))}.')
    if by_epoch and length is None:
        return Phases([], None, True, f'{sentence} The switch is not '
                      'drawn: no checkpoint tells the iterations an epoch.')
    iterations = [s * length if by_epoch else s for s in starts]
    return Phases(iterations, length, True, sentence)
