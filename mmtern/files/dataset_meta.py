"""Class names and colours: one check for whoever writes or reads them."""
from numbers import Real
from typing import Any, Dict, List, Tuple

from .errors import TernaryFileError


def check_dataset_meta(meta: Dict[str, Any]) -> Dict[str, Any]:
    """Class names and colours in the form that a packed file holds.

    Args:
        meta (dict): A data set's or checkpoint's; keys in any case, as in
            mmdet 2 and 3.

    Returns:
        dict: ``classes`` (tuple of str) and ``palette`` (name or list of
        tuples of int), each where there is one.

    Raises:
        TernaryFileError: If the names are no list of texts or the colours no
            list of numbers from 0 to 255.
    """
    meta = {str(key).lower(): value for key, value in meta.items()}
    checked: Dict[str, Any] = {}
    classes, palette = meta.get('classes'), meta.get('palette')
    if classes is not None and len(_sequence(classes, 'classes')):
        checked['classes'] = tuple(classes)
        for name in classes:
            if not isinstance(name, str):
                raise TernaryFileError(
                    f'the class names hold {_short(name)}, which is no text')
    if isinstance(palette, str):
        if palette:
            checked['palette'] = palette
    elif palette is not None and len(_sequence(palette, 'palette')):
        checked['palette'] = _colours(palette, len(checked.get('classes', ())))
    return checked


def _sequence(value: Any, key: str) -> Any:
    if isinstance(value, str):
        raise TernaryFileError(
            f'{key} must be a list of names, but got the text {_short(value)};'
            f' for a single class write {key}=({_short(value)}, )')
    if not isinstance(value, (list, tuple)):
        raise TernaryFileError(f'{key} must be a list, but got a '
                               f'{type(value).__name__}, {_short(value)}')
    return value


def _colours(palette: Any, classes: int) -> List[Tuple[int, ...]]:
    # mmdet takes a tuple of numbers for the one colour of all classes.
    if all(_is_level(level) for level in palette):
        palette = [palette] * max(classes, 1)
    for colour in palette:
        if not isinstance(colour,
                          (list, tuple)) or len(colour) != 3 or not all(
                              map(_is_level, colour)):
            raise TernaryFileError(
                f'the palette holds {_short(colour)}, but a colour must be '
                'three whole numbers from 0 to 255')
    return [tuple(int(level) for level in colour) for colour in palette]


def _is_level(value: Any) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    number: Any = value  # the type Real promises no comparison with int
    return bool(0 <= number <= 255 and number == int(number))


def _short(value: Any) -> str:
    return repr(value)[:80]
