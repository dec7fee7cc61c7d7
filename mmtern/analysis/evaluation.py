"""Detections on the images of a test set, and their accuracy."""
import contextlib
import copy
import io
import sys
import time
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.progress import track
from torch import nn

# A detection counts as right at this overlap with an object of its class,
# and is shown from this score on.
IOU, SCORE = 0.5, 0.4
RECALLS = np.linspace(0, 1, 101)


class Boxes(NamedTuple):
    """The boxes of one image.

    Attributes:
        corners: x0, y0, x1, y1 in pixels, shape (N, 4).
        labels: Class of each, shape (N, ).
        scores: In [0, 1], shape (N, ); all 1 for ground truth.
    """
    corners: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def confident(self) -> 'Boxes':
        """Return the boxes with a score of ``SCORE`` or more, best first."""
        order = np.argsort(-self.scores, kind='stable')
        order = order[self.scores[order] >= SCORE]
        return Boxes(*(array[order] for array in self))


@dataclass(frozen=True)
class GroundTruth:
    """Images of a test set with their objects.

    Attributes:
        paths: Files of the images.
        truth: Objects of each, crowds and difficult ones left out.
        ignored: Regions of each where detections do not count.
        classes: Names.
        total: Images of the whole set, of which these are a part.
    """
    paths: List[str]
    truth: List[Boxes]
    ignored: List[Boxes]
    classes: List[str]
    total: int


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of detections by COCO's rules.

    Attributes:
        ap: Mean over classes and overlaps of .50 to .95, in percent.
        ap50: At overlap .5, in percent.
        classes: AP of each class in percent, NaN where it has no object.
        precision: At ``RECALLS``, overlap .5, mean over classes.
        confusion: Objects of class i (row) found as class j (column), or
            missed (last column); last row: detections that are no object.
    """
    ap: float
    ap50: float
    classes: List[float]
    precision: np.ndarray
    confusion: np.ndarray


@dataclass(frozen=True)
class Findings:
    """The detections of one detector on all images.

    Attributes:
        name: 'float' or 'ternary'.
        found: Detections of each image.
        accuracy: Of all of them.
        milliseconds: Median of an image, file reading included.
    """
    name: str
    found: List[Boxes]
    accuracy: Accuracy
    milliseconds: float


def read_ground_truth(cfg: Config,
                      most: int,
                      loader: str = 'test_dataloader') -> GroundTruth:
    """Read evenly spaced images of a config's test set, with their objects.

    Args:
        cfg (Config): With the dataloader.
        most (int): Images to take at most.
        loader (str): Which dataloader's data set. Defaults to
            'test_dataloader'.

    Raises:
        ValueError: If the data set has no images.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(cfg[loader].dataset)
    if not len(dataset):
        raise ValueError(f'the data set of {loader} has no images')
    chosen = np.linspace(0, len(dataset) - 1, min(most, len(dataset)))
    items = [dataset.get_data_info(int(i)) for i in chosen]
    truth, ignored = ([_objects(item, flag) for item in items]
                      for flag in (0, 1))
    return GroundTruth([item['img_path'] for item in items], truth, ignored,
                       list(dataset.metainfo['classes']), len(dataset))


def _objects(item: Dict[str, Any], ignored: int) -> Boxes:
    objects = [
        one for one in item.get('instances', [])
        if int(one.get('ignore_flag', 0)) == ignored
    ]
    corners = np.array([one['bbox'] for one in objects], float).reshape(-1, 4)
    labels = np.array([one['bbox_label'] for one in objects], int)
    return Boxes(corners, labels, np.ones(len(objects)))


def run_detector(name: str, cfg: Config, checkpoint: str,
                 tests: GroundTruth) -> Findings:
    """Load a detector and run it on the images, one by one, on the CPU,
    with a progress bar."""
    model = init_detector(copy.deepcopy(cfg), checkpoint, device='cpu')
    return run_model(name, model, tests)


def run_model(name: str, model: nn.Module, tests: GroundTruth) -> Findings:
    """Run a detector of mmdet's ``init_detector`` on the images."""
    found, times = [], []
    for path in track(
            tests.paths,
            f'{name:24}',
            console=Console(stderr=True),
            disable=not sys.stderr.isatty()):
        started = time.perf_counter()
        result = inference_detector(model, path).pred_instances.cpu()
        times.append(1000 * (time.perf_counter() - started))
        found.append(
            Boxes(result.bboxes.numpy().astype(float), result.labels.numpy(),
                  result.scores.numpy().astype(float)))
    return Findings(name, found, measure_accuracy(tests, found),
                    float(np.median(times)))


def measure_accuracy(tests: GroundTruth, found: List[Boxes]) -> Accuracy:
    """Compare detections with the ground truth."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _as_coco(tests)
        rows = [
            dict(
                image_id=index,
                category_id=int(label),
                bbox=_with_size(box),
                score=float(score)) for index, boxes in enumerate(found)
            for box, label, score in zip(*boxes)
        ]
        precision: np.ndarray = -np.ones(
            (10, len(RECALLS), len(tests.classes)))
        if rows and truth.anns:
            evaluation = COCOeval(truth, truth.loadRes(rows), 'bbox')
            evaluation.evaluate()
            evaluation.accumulate()
            precision = evaluation.eval['precision'][..., 0, -1]
    # Classes without objects have -1 everywhere.
    precision = np.where(precision < 0, np.nan, precision)
    has = ~np.isnan(precision[0, 0])
    classes = [
        100 * float(precision[..., k].mean()) if has[k] else float('nan')
        for k in range(len(tests.classes))
    ]
    known = precision[..., has]
    ap, ap50 = 0.0, 0.0
    curve: np.ndarray = np.zeros(len(RECALLS))
    if has.any():
        ap, ap50 = 100 * float(known.mean()), 100 * float(known[0].mean())
        curve = known[0].mean(1)
    return Accuracy(ap, ap50, classes, curve, confusion_matrix(tests, found))


def _as_coco(tests: GroundTruth) -> COCO:
    annotations: List[Dict[str, Any]] = []
    for index, sides in enumerate(zip(tests.truth, tests.ignored)):
        for crowd, boxes in enumerate(sides):
            for box, label in zip(boxes.corners, boxes.labels):
                x, y, width, height = _with_size(box)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=index,
                        category_id=int(label),
                        bbox=[x, y, width, height],
                        area=width * height,
                        iscrowd=crowd))
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=index) for index in range(len(tests.paths))],
        annotations=annotations,
        categories=[
            dict(id=index, name=name)
            for index, name in enumerate(tests.classes)
        ])
    coco.createIndex()
    return coco


def _with_size(box: np.ndarray) -> List[float]:
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each pair of boxes.

    Args:
        first (np.ndarray): Corners, shape (N, 4).
        second (np.ndarray): Corners, shape (M, 4).

    Returns:
        np.ndarray: Shape (N, M), in [0, 1].
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (first, second)]
    union = areas[0][:, None] + areas[1] - common
    return common / np.maximum(union, 1e-9)


def match(truth: Boxes, found: Boxes, by_class: bool = True) -> np.ndarray:
    """Match detections to objects: each detection takes one object at most,
    the best scored first.

    Args:
        truth (Boxes): Objects, M of them.
        found (Boxes): Detections, sorted by score, N of them.
        by_class (bool): Whether the classes must agree.

    Returns:
        np.ndarray: Indices into ``truth``, or -1; shape (N, ).
    """
    scores = overlaps(found.corners, truth.corners)
    taken: np.ndarray = -np.ones(len(found.corners), int)
    if by_class:
        scores[found.labels[:, None] != truth.labels] = 0
    for index in range(len(taken)):
        free = scores[index].copy()
        free[taken[taken >= 0]] = 0
        if len(free) and free.max() >= IOU:
            taken[index] = int(free.argmax())
    return taken


def confusion_matrix(tests: GroundTruth, found: List[Boxes]) -> np.ndarray:
    """Count objects by their class (row) and by the class of the detection
    that matched them (column); the last row and column stand for no object and
    no detection."""
    count = len(tests.classes)
    matrix: np.ndarray = np.zeros((count + 1, count + 1), int)
    for truth, ignored, boxes in zip(tests.truth, tests.ignored, found):
        boxes = boxes.confident()
        taken = match(truth, boxes, by_class=False)
        excused = overlaps(boxes.corners, ignored.corners)
        for index, (label, target) in enumerate(zip(boxes.labels, taken)):
            if target >= 0:
                matrix[truth.labels[target], label] += 1
            elif not (excused[index] >= IOU).any():
                matrix[count, label] += 1
        missed = np.setdiff1d(np.arange(len(truth.labels)), taken)
        np.add.at(matrix, (truth.labels[missed], count), 1)
    return matrix


def by_difference(findings: List[Findings], tests: GroundTruth) -> List[int]:
    """Return the indices of the images, those first on which the detectors
    differ most; with a single detector, those first that hold most objects."""
    if len(findings) < 2:
        keys = [len(truth.labels) for truth in tests.truth]
    else:
        keys = []
        for first, second in zip(*(one.found for one in findings[:2])):
            first, second = first.confident(), second.confident()
            agreed = int((match(first, second) >= 0).sum())
            keys.append(len(first.labels) + len(second.labels) - 2 * agreed)
    return sorted(range(len(keys)), key=lambda i: (-keys[i], i))


def counts(truth: Boxes, found: Boxes) -> Tuple[int, int]:
    """Return the numbers of missed objects and of false detections in an
    image."""
    found = found.confident()
    right = int((match(truth, found) >= 0).sum())
    return len(truth.labels) - right, len(found.labels) - right
