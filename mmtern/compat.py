"""Check at import that the frameworks fit, and say how to mend it."""
from importlib import import_module

from packaging.specifiers import SpecifierSet

from .version import SUPPORTED

MEND = 'run "bash tools/setup_env.sh", or install an accepted version by hand'


def check_versions() -> None:
    """Compare the frameworks' versions with the supported ranges.

    Raises:
        ImportError: If a framework is missing, cannot be imported beside the
            others, or has a version outside its range.
    """
    for name, accepted in SUPPORTED.items():
        found = _version(name, accepted)
        # Nightly and vendor builds (2.14.0a0+git...) count as their number.
        if not SpecifierSet(accepted).contains(found, prereleases=True):
            raise ImportError(f'mmtern needs {name}{accepted}, but {name} '
                              f'{found} is installed; {MEND}')


def _version(name: str, accepted: str) -> str:
    try:
        return import_module(name).__version__
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f'mmtern needs {name}{accepted}, which is not '
                          f'installed; {MEND}') from error
    except AssertionError as error:
        # Released mmdet and mmcv assert each other's versions at import.
        reason = ' '.join(str(error).split()).rstrip('.')
        raise ImportError(f'mmtern needs {name}{accepted}, but {name} refuses '
                          f'the packages beside it ({reason}); '
                          f'{MEND}') from error
