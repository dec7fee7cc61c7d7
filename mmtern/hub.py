"""The package's configs by mmengine's ``package::path``."""
from mmengine.config.utils import MODULE2PACKAGE


def register_configs() -> None:
    """Let ``mmengine.hub.get_config('mmtern::configs/NAME.py')`` and
    ``_base_ = 'mmtern::configs/NAME.py'`` find the installed configs.

    mmengine looks a package up in this table first and refuses those that
    are not listed. It also refuses a path without a folder, hence
    ``configs/``. As a ``_base_`` it gives everything of ours the scope
    ``mmtern``, which has no registries and falls back to mmengine's own: fine
    for hooks, but not for the data sets of the small configs, which are for
    use inside the repository.
    """
    MODULE2PACKAGE.setdefault('mmtern', 'mmtern')
