"""What a package says it exports, it has."""
import importlib
import pkgutil

import pytest

import mmtern

# mmtern.report is nothing without them.
pytest.importorskip('plotly')
pytest.importorskip('jinja2')


def test_every_name_of_all_exists():
    missing = []
    for found in pkgutil.walk_packages(mmtern.__path__, 'mmtern.'):
        if found.ispkg:
            package = importlib.import_module(found.name)
            missing += [
                f'{found.name}.{name}' for name in package.__all__
                if not hasattr(package, name)
            ]
    assert not missing
