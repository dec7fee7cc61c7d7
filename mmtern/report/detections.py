"""Test images with the detections of several models, for drawing in SVG."""
import base64
import os.path as osp
from dataclasses import dataclass
from typing import List, Tuple

import cv2
import numpy as np
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from .theme import CLASSES

SCORE_THRESHOLD = 0.4
LONGEST_SIDE = 480  # pixels on the page


@dataclass(frozen=True)
class Box:
    """A detection; position and size in pixels of the page's image."""
    x: float
    y: float
    width: float
    height: float
    label: str
    score: float
    color: str


@dataclass(frozen=True)
class Picture:
    """A test image and, for each model, its name and detections."""
    name: str
    width: int
    height: int
    jpeg: str
    models: List[Tuple[str, List[Box]]]


def detect(models: List[Tuple[str, Config, str]],
           count: int) -> Tuple[List[Picture], List[str]]:
    """Run models on evenly spaced images of the first one's test set.

    Args:
        models (list): Name, config and checkpoint of each.
        count (int): Number of images.

    Returns:
        tuple: Pictures, and the classes' names.
    """
    dataset = models[0][1].test_dataloader.dataset
    init_default_scope(models[0][1].get('default_scope', 'mmdet'))
    dataset = DATASETS.build(dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset)))
    paths = [dataset.get_data_info(int(i))['img_path'] for i in chosen]
    found = []
    for name, cfg, checkpoint in models:
        model = init_detector(cfg.copy(), checkpoint, device='cpu')
        found.append([inference_detector(model, path) for path in paths])
    classes = list(dataset.metainfo['classes'])
    pictures = [
        _picture(path, classes, [(model[0], results[index])
                                 for model, results in zip(models, found)])
        for index, path in enumerate(paths)
    ]
    return pictures, classes


def class_color(index: int) -> str:
    """Colour of a class, the same in every picture."""
    return CLASSES[index % len(CLASSES)]


def _picture(path: str, classes: List[str], results: list) -> Picture:
    image = cv2.imread(path)
    if image is None:
        raise ValueError(f'image {path!r} cannot be read')
    shrink = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
    image = cv2.resize(
        image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    models = []
    for name, result in results:
        instances = result.pred_instances
        instances = instances[instances.scores >= SCORE_THRESHOLD].cpu()
        boxes = (instances.bboxes * shrink).tolist()
        models.append((name, [
            Box(x0, y0, x1 - x0, y1 - y0, classes[label], score,
                class_color(label))
            for (x0, y0, x1, y1), label, score in zip(
                boxes, instances.labels.tolist(), instances.scores.tolist())
        ]))
    return Picture(
        osp.basename(path), image.shape[1], image.shape[0],
        base64.b64encode(jpeg.tobytes()).decode(), models)
