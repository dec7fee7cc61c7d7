"""The iterations at which a run switched from approach to ternary."""
from dataclasses import dataclass
from inspect import signature
from typing import List, Optional

from ..engine.hooks import TernaryScheduleHook
from ..files.type_names import type_name
from .work_dir import WorkDir


@dataclass(frozen=True)
class Phases:
    """The switches of the schedule.

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
        """Return ``iterations`` in epochs as text, which is empty where their
        length is unknown."""
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
    hooks = list(config.get('custom_hooks') or [])
    hooks += (config.get('default_hooks') or {}).values()
    hooks = [
        h for h in hooks if isinstance(h, dict)
        and type_name(h.get('type')) == 'TernaryScheduleHook'
    ]
    if not hooks:
        return Phases([], length, False,
                      'The config has no TernaryScheduleHook: '
                      'the weights were ternary all the time.')
    default = signature(TernaryScheduleHook).parameters['begin'].default
    begin = hooks[0].get('begin', default)
    by_epoch = hooks[0].get('by_epoch', True)
    begins = sorted(set(begin.values())) if isinstance(begin,
                                                       dict) else [begin]
    begins = [one for one in begins if one > 0]
    if not begins:
        return Phases([], length, False, 'There was no approach phase: the '
                      'weights were ternary from the first iteration.')
    total = _iterations(config, length)
    words: List[str] = []
    iterations: List[Optional[int]] = []
    for one in begins:
        # A share of the run, or a count of epochs or iterations.
        share = isinstance(one, float) and one < 1
        unit = total if share else length if by_epoch else 1
        iterations.append(unit and round(one * unit))
        words.append(f'{one:.0%} of the training' if share else
                     f'{"epoch" if by_epoch else "iteration"} {one:g}')
    sentence = f'Layers were fully ternary after {", ".join(words)}.'
    if None in iterations:
        return Phases([], None, True, f'{sentence} The switch is not '
                      'drawn: no checkpoint tells the iterations an epoch.')
    known = sorted(one for one in iterations if one is not None)
    return Phases(known, length, True, sentence)


def _iterations(config: dict, length: Optional[int]) -> Optional[int]:
    """Return the iterations of the whole training where the config states
    them."""
    loop = config.get('train_cfg') or {}
    if loop.get('max_iters'):
        return loop['max_iters']
    if loop.get('max_epochs') and length:
        return loop['max_epochs'] * length
    return None
