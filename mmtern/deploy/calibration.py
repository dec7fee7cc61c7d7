"""Images to measure activations with."""
import os
import os.path as osp
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Dict, Iterator, Optional

import cv2
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose
from torch import Tensor

from .metadata import test_pipeline

# Enough for min-max ranges in the detectors tried; --calibrate takes more.
COUNT = 32
_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def calibration_images(cfg: Config,
                       count: int = COUNT,
                       folder: Optional[str] = None) -> Iterator[Tensor]:
    """Yield images as the test pipeline makes them, evenly spread over the
    training data, or over a folder's files in the order of their names.

    Args:
        cfg (Config): With a test pipeline and, without ``folder``, a
            ``train_dataloader``.
        count (int): How many images; all, where there are fewer.
        folder (str, optional): Folder of images to take instead of the
            training data.

    Yields:
        Tensor: An image, uint8, (C, H, W), channels in mmdet's order.

    Raises:
        ValueError: If there are no images, or one cannot be read.
    """
    # A config's own copy() is shallow: edits would reach the test data.
    pipeline = deepcopy(test_pipeline(cfg))
    if folder is None:
        dataset = _training_data(cfg, pipeline)
        for index in _spread(len(dataset), count):
            with _named(dataset.get_data_info(index)['img_path']):
                image = dataset[index]
            yield image['inputs']
        return
    if not osp.isdir(folder):
        raise ValueError(f'folder {folder!r} of calibration images does not '
                         'exist')
    names = sorted(
        name for name in os.listdir(folder) if name.lower().endswith(_ENDINGS))
    if not names:
        raise ValueError(f'folder {folder!r} holds no images with the endings '
                         f'{", ".join(_ENDINGS)}')
    compose = Compose([TRANSFORMS.build(x) for x in pipeline])
    for index in _spread(len(names), count):
        path = osp.join(folder, names[index])
        with _named(path):
            image = compose(dict(img_path=path, img_id=index, instances=[]))
        yield image['inputs']


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the image that OpenCV fails on."""
    try:
        yield
    # The second where it decodes nothing.
    except (cv2.error, AssertionError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(f'calibration image {path!r} cannot be read: '
                         f'{reason}') from error


def _spread(length: int, count: int) -> Iterator[int]:
    count = min(length, count)
    return (i * length // count for i in range(count))


def _training_data(cfg: Config, pipeline: list) -> Any:
    dataset: Dict[str, Any] = (cfg.get('train_dataloader')
                               or {}).get('dataset') or {}
    # Through repetitions, mosaics and the like; of several sets the first.
    while dataset.get('dataset') or dataset.get('datasets'):
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    advice = ('; name a folder of images (--images FOLDER) or keep float '
              'activations (--activations float)')
    if not dataset:
        raise ValueError(f'the config has no training data to measure '
                         f'activations with{advice}')
    dataset = deepcopy(dataset)
    dataset['pipeline'] = pipeline
    try:
        built = DATASETS.build(dataset)
    except OSError as error:
        raise ValueError(f'training data to measure activations with cannot '
                         f'be read: {error}{advice}') from error
    if not len(built):
        raise ValueError(f'the training data is empty{advice}')
    return built
