"""The package's configs by mmengine's ``package::path``."""
from mmengine.config.utils import MODULE2PACKAGE


def register_configs() -> None:
    """Let ``mmengine.hub.get_config('mmtern::configs/NAME.py')`` and
    ``_base_ = 'mmtern::configs/NAME.py'`` find the installed configs.

    mmengine looks a package up in this table first and refuses those that
    are not listed. It also wants a folder in the path, hence ``configs/``.
    """
    MODULE2PACKAGE.setdefault('mmtern', 'mmtern')
