"""The version, and the versions of the frameworks that mmtern works with.

Read by setup.py without importing the package, so it imports nothing.
"""
__version__ = '0.2.0'

# The one place that states these ranges: setup.py builds its requirements
# from them and mmtern.engine.frameworks checks them at import. The names are
# those of the modules; mmcv, mmengine and mmdet come as distributions of the
# same name or with the prefix onedl-.
SUPPORTED = {
    'torch': '>=2.0',
    'mmengine': '>=0.10.7,<1.0',
    'mmcv': '>=2.1.0,<2.4',
    'mmdet': '>=3.3.0,<4',
}
