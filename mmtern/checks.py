"""Checks of single settings, and the sentences for wrong ones."""
import math
from typing import Sequence, TypeGuard, Union


def is_number(value: object) -> TypeGuard[Union[int, float]]:
    """Return whether ``value`` is a finite int or float."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value))


def is_count(value: object) -> TypeGuard[int]:
    """Return whether ``value`` is a whole number >= 0."""
    return isinstance(value, int) and is_number(value) and value >= 0


def first_three(names: Sequence[str]) -> str:
    """Return names as a sentence can hold them: 'a, b, c and 5 more'."""
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more


def check_choice(name: str, value: object, accepted: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of those accepted."""
    if value not in accepted:
        raise ValueError(
            f'{name} must be one of {accepted}, but got {value!r}')


def check_flag(name: str, value: object) -> None:
    """Raise ``ValueError`` unless ``value`` is a bool: the text 'False' would
    count as true."""
    if not isinstance(value, bool):
        raise ValueError(f'{name} must be True or False, but got {value!r}')


def check_sparsity(name: str, value: object) -> None:
    """Raise ``ValueError`` unless ``value`` is a share of zeros, in [0, 1)."""
    if not (is_number(value) and 0.0 <= value < 1.0):
        raise ValueError(f'{name} must be a number in [0, 1), the least share '
                         f'of zeros, but got {value!r}')


def check_positive_count(name: str, value: object) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number >= 1."""
    if not (is_count(value) and value >= 1):
        raise ValueError(
            f'{name} must be a whole number >= 1, but got {value!r}')
