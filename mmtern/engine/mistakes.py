"""The one place that tells a user's mistake from a bug: an exception that a
user can do something about becomes a sentence."""
import os.path as osp
import re
import traceback
from difflib import get_close_matches
from typing import Iterator, List, Optional

from ..files.type_names import registries

PACKAGE = osp.dirname(osp.dirname(osp.abspath(__file__)))
# Types of exceptions that our library raises where a user's value or file is
# wrong.
OURS = (ValueError, OSError, ImportError, FloatingPointError)
# Types of exceptions that building from a wrong config raises in torch,
# mmengine and mmdet.
BUILDING = (ValueError, TypeError, KeyError, AssertionError, ImportError,
            RuntimeError)
# Frames in these folders mean that a config is being read, or that something
# is being built from it.
READING = osp.join('mmengine', 'config')
REGISTRY = osp.join('mmengine', 'registry')
NOT_REGISTERED = re.compile(r'(\S+) is not in the \S+ registry')


def sentence_for(error: BaseException) -> Optional[str]:
    """Return one sentence for an exception that a user can do something about,
    and None for all others, so that a bug keeps its traceback.

    A user can do something about what mmtern raises for a wrong value or
    file, about what the frameworks raise while they build from the config,
    and about files that cannot be read or written.
    """
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, OURS) and _innermost(link).startswith(PACKAGE):
            return _message(link)
    root = chain[-1]
    if _innermost(root).startswith(PACKAGE):
        return None
    if isinstance(root, OSError) and root.filename is not None:
        return f'{root.strerror}: {str(root.filename)!r}'
    building = any(REGISTRY in frame for x in chain for frame in _frames(x))
    if building and isinstance(root, BUILDING) and not _in_our_layer(root):
        return _message(root)
    return _message(root) if READING in _innermost(root) else None


def did_you_mean(name: str, accepted: List[str]) -> str:
    """Return '; did you mean X?', or '' where no accepted name is near."""
    close = get_close_matches(name, accepted, n=1)
    return f'; did you mean {close[0]!r}?' if close else ''


def _message(error: BaseException) -> str:
    text = ' '.join(str(error).split())
    if isinstance(error, KeyError) and error.args:
        text = ' '.join(str(error.args[0]).split())
    unknown = NOT_REGISTERED.search(text)
    if unknown:
        name = unknown[1]
        return (f'the config names {name!r}, which is registered nowhere'
                f'{did_you_mean(name, registered_names())}')
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f'{osp.basename(frame.filename)}, line {frame.lineno}'
    if isinstance(error, KeyError) and ' ' not in text:
        return (f'the key {text!r} is missing in the config or in a file '
                f'that it names ({place})')
    if not text:
        return (f'the config breaks a rule of the code that it names: '
                f'{frame.line} ({place})')
    return text[:600]


def registered_names() -> List[str]:
    """Return the names in all registries, sorted."""
    return sorted({name for one in registries() for name in one.module_dict})


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from, the first one
    last."""
    link: Optional[BaseException] = error
    while link is not None:
        yield link
        hidden = link.__suppress_context__
        link = link.__cause__ or (None if hidden else link.__context__)


def _in_our_layer(error: BaseException) -> bool:
    """Return whether the registry called our code last, as where a wrapper
    fails and not the part that it wraps."""
    frames = _frames(error)
    built = [i for i, frame in enumerate(frames) if REGISTRY in frame]
    called = frames[built[-1] + 1:built[-1] + 2] if built else []
    return any(frame.startswith(PACKAGE) for frame in called)


def _frames(error: BaseException) -> List[str]:
    return [
        frame.filename for frame in traceback.extract_tb(error.__traceback__)
    ]


def _innermost(error: BaseException) -> str:
    frames = _frames(error)
    return frames[-1] if frames else ''
