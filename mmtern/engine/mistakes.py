"""Which exceptions tell a user what to mend, and in which words."""
import os.path as osp
import re
import traceback
from difflib import get_close_matches
from typing import Iterator, List, Optional, Set

import mmdet.registry
import mmengine.registry
from mmengine.registry import Registry

PACKAGE = osp.dirname(osp.dirname(osp.abspath(__file__)))
# What our library raises for what a user wrote or gave.
SAID = (ValueError, OSError, ImportError, FloatingPointError)
# What building from a wrong config raises in mmengine and mmdet.
BUILDING = (ValueError, TypeError, KeyError, AssertionError, ImportError,
            NotImplementedError)
# Innermost frames and callers in these folders mean the config is read, or
# something is built from it.
READING = osp.join('mmengine', 'config')
REGISTRY = osp.join('mmengine', 'registry')
NOT_REGISTERED = re.compile(r'(\S+) is not in the \S+ registry')


def sentence_for(error: BaseException) -> Optional[str]:
    """The sentence for an exception that a user can do something about.

    That is: what mmtern raises for a wrong value or file; what mmengine and
    mmdet raise while they build from the config; files that cannot be read
    or written. None for everything else, so that a bug keeps its traceback.
    """
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, SAID) and _innermost(link).startswith(PACKAGE):
            return _message(link)
    root = chain[-1]
    if _innermost(root).startswith(PACKAGE):
        return None
    if isinstance(root, OSError) and root.filename is not None:
        return f'{root.strerror}: {str(root.filename)!r}'
    frames = [frame for link in chain for frame in _frames(link)]
    building = any(REGISTRY in frame for frame in frames)
    if building and isinstance(root, BUILDING) or READING in _innermost(root):
        return _message(root)
    return None


def did_you_mean(name: str, accepted: List[str]) -> str:
    """'; did you mean X?', or nothing where no accepted name is near."""
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
    if isinstance(error, KeyError):
        return (f'the key {text!r} is missing in the config or in a file '
                f'that it names ({place})')
    if not text:
        return (f'the config breaks a rule of the code that it names: '
                f'{frame.line} ({place})')
    return text[:600]


def registered_names() -> List[str]:
    """Names in all registries of mmengine and mmdet, sorted."""
    names: Set[str] = set()
    for module in (mmengine.registry, mmdet.registry):
        for value in vars(module).values():
            if isinstance(value, Registry):
                names.update(value.module_dict)
    return sorted(names)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was raised from, the first one last."""
    link: Optional[BaseException] = error
    while link is not None:
        yield link
        hidden = link.__suppress_context__
        link = link.__cause__ or (None if hidden else link.__context__)


def _frames(error: BaseException) -> List[str]:
    return [
        frame.filename for frame in traceback.extract_tb(error.__traceback__)
    ]


def _innermost(error: BaseException) -> str:
    frames = _frames(error)
    return frames[-1] if frames else ''
