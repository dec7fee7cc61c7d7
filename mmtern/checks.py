"""What a setting may be."""
import math


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite int or float."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value))


def is_count(value: object) -> bool:
    """Whether ``value`` is a whole number >= 0."""
    return isinstance(value, int) and is_number(value) and value >= 0
