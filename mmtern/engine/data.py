"""The check that the files of a config's dataloaders exist."""
import os.path as osp
from typing import Any, Iterator

from mmengine.config import Config

DATA_SECTION = 'README.md, section "Data"'


def check_data(cfg: Config, *loaders: str) -> None:
    """Raise unless the local files that these dataloaders read are there.

    Otherwise a missing data set ends in a traceback from a worker process.
    Remote data (a URL, or ``backend_args`` that name another place than the
    local disk) is left to mmengine's file clients.

    Raises:
        FileNotFoundError: If a data root or an annotation file is missing.
    """
    for loader in loaders:
        for path in _local_paths(cfg.get(loader)):
            if not osp.exists(path):
                raise FileNotFoundError(
                    f'{loader} needs {path!r}, which does not exist; '
                    f'{DATA_SECTION} tells where data goes')


def _local_paths(node: Any) -> Iterator[str]:
    """Yield the annotation files and data roots of a dataset config, those of
    wrapped data sets included."""
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _local_paths(child)
    elif isinstance(node, dict):
        backend = (node.get('backend_args') or {}).get('backend', 'local')
        if backend != 'local':
            return
        root = node.get('data_root') or ''
        paths = [root] if root else []
        annotations = node.get('ann_file')
        if isinstance(annotations, str) and annotations:
            paths.append(
                osp.join(root, annotations) if '://' not in
                annotations else annotations)
        yield from (path for path in paths if '://' not in path)
        for key in ('dataset', 'datasets'):
            yield from _local_paths(node.get(key))
