"""Test images with their objects and the detections of several models, as
SVG."""
import base64
import os.path as osp
from dataclasses import dataclass
from typing import List

import cv2
import numpy as np

from ..analysis.evaluation import (Boxes, Findings, GroundTruth, by_difference,
                                   counts, match)
from .theme import CLASSES

LONGEST_SIDE = 440  # pixels on the page
LETTER = (7, 12)  # width and height of one of a label, in these pixels


@dataclass(frozen=True)
class Box:
    """An object or a detection; position and size in pixels of the page's
    image, and where its label begins. ``kind`` is 'truth', 'right', 'false'
    or 'missed'."""
    x: float
    y: float
    width: float
    height: float
    label: str
    color: str
    kind: str
    label_x: float
    label_y: float


@dataclass(frozen=True)
class Panel:
    """The detections of one model: boxes to draw, and a caption."""
    name: str
    boxes: List[Box]
    caption: str


@dataclass(frozen=True)
class Picture:
    """A test image and its panels, ground truth first."""
    name: str
    width: int
    height: int
    jpeg: str
    panels: List[Panel]


def draw_pictures(tests: GroundTruth, findings: List[Findings],
                  count: int) -> List[Picture]:
    """Draw the images on which the detectors differ most."""
    chosen = by_difference(findings, tests)[:count]
    return [_picture(tests, findings, index) for index in chosen]


def class_color(index: int) -> str:
    """Return the colour of a class, which is the same in every picture."""
    return CLASSES[index % len(CLASSES)]


def _picture(tests: GroundTruth, findings: List[Findings],
             index: int) -> Picture:
    path, truth = tests.paths[index], tests.truth[index]
    image = cv2.imread(path)
    if image is None:
        raise ValueError(f'image {path!r} cannot be read')
    scale = LONGEST_SIDE / max(image.shape[:2])
    image = cv2.resize(
        image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]

    def boxes(source: Boxes, rows: np.ndarray, kind: str) -> List[Box]:
        drawn = []
        for row in rows:
            x0, y0, x1, y1 = (scale * source.corners[row]).tolist()
            label = int(source.labels[row])
            score = f' {source.scores[row]:.2f}'[:5].replace(' 0.', ' .')
            scored = '' if kind in ('truth', 'missed') else score
            text = tests.classes[label] + scored
            # Above the box, but below a false one, which often lies on a
            # right one; inside the image.
            below = y1 + LETTER[1] if kind == 'false' else y0 - 4
            x = min(x0 + 2, image.shape[1] - LETTER[0] * len(text))
            y = min(max(below, LETTER[1]), image.shape[0] - 3)
            drawn.append(
                Box(x0, y0, x1 - x0, y1 - y0, text, class_color(label), kind,
                    max(x, 2), y))
        return drawn

    every = np.arange(len(truth.labels))
    panels = [
        Panel('ground truth', boxes(truth, every, 'truth'),
              f'{len(every)} object{"s" if len(every) != 1 else ""}')
    ]
    for one in findings:
        found = one.found[index].confident()
        taken = match(truth, found)
        missed, false = counts(truth, found)
        drawn = boxes(found, np.flatnonzero(taken >= 0), 'right')
        drawn += boxes(found, np.flatnonzero(taken < 0), 'false')
        drawn += boxes(truth, np.setdiff1d(every, taken), 'missed')
        panels.append(
            Panel(one.name, drawn, f'{missed} missed, {false} false'))
    return Picture(
        osp.basename(path), image.shape[1], image.shape[0],
        base64.b64encode(jpeg.tobytes()).decode(), panels)
