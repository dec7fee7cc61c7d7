"""Checks that several hooks share."""
import math

from mmengine.hooks import Hook
from mmengine.runner import Runner


def check_alone(runner: Runner, hook: Hook) -> None:
    """Two hooks of one kind would overwrite each other's phases.

    Raises:
        ValueError: If the runner has more than one.
    """
    name = type(hook).__name__
    count = sum(type(other).__name__ == name for other in runner.hooks)
    if count > 1:
        raise ValueError(f'custom_hooks must hold {name} once, but it holds '
                         f'{count} whose phases overlap')


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite int or float."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value))


def is_count(value: object) -> bool:
    """Whether ``value`` is a whole number >= 0."""
    return isinstance(value, int) and is_number(value) and value >= 0
