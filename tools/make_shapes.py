"""Draw the embedded data set: textured images with overlapping circles,
squares and triangles, in COCO format, the same for the same seed."""
import argparse
import json
import os
import os.path as osp
from typing import List, Tuple

import cv2
import numpy as np
from mmengine.utils import track_iter_progress

from mmtern.engine.cli import Parser, fail

CLASSES = ('circle', 'square', 'triangle')
# A shape that others hide more than this is not annotated and not drawn.
LEAST_VISIBLE = 0.4
SMALLEST, LARGEST = 24, 100
# Colours that the classes tend to, so that a small detector learns them in
# minutes; blue, green, red.
TENDENCY = np.array([(200, 120, 60), (60, 190, 110), (70, 80, 210)])


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__, 'python tools/make_shapes.py data/shapes')
    parser.add_argument('out', help='folder for images and annotations')
    for split, count in (('train', 160), ('val', 40), ('test', 80)):
        parser.add_argument(
            f'--{split}', type=int, default=count, help=f'{split} images')
    parser.add_argument(
        '--size', default='320x240', help='WIDTHxHEIGHT in pixels')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        args.width, args.height = map(int, args.size.split('x'))
    except ValueError:
        fail(f'--size must be WIDTHxHEIGHT like 320x240, got {args.size!r}')
    if min(args.width, args.height) < 2 * SMALLEST:
        fail(f'--size must be at least {2 * SMALLEST} pixels each way, got '
             f'{args.size!r}')
    if min(args.train, args.val, args.test) < 1:
        fail('--train, --val and --test must be at least 1 image each')
    return args


def texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Smooth coloured noise at three scales, (height, width, 3) in
    [0, 255]."""
    image = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((3, 22), (12, 11), (48, 8)):
        coarse = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        image += strength * cv2.resize(
            coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image += rng.normal(scale=8, size=image.shape)
    return np.clip(image + rng.uniform(80, 170, size=3), 0, 255)


def outline(rng: np.random.Generator, label: int, center: np.ndarray,
            size: float) -> np.ndarray:
    """Corners of a randomly turned shape, (N, 2) in pixels."""
    corners = {0: 48, 1: 4, 2: 3}[label]
    turn = rng.uniform(0, 2 * np.pi)
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    stretch = rng.uniform(0.8, 1.25)
    unit = np.stack([np.cos(angles) * stretch, np.sin(angles) / stretch], 1)
    return np.round(center + size / 2 * unit).astype(np.int32)


def draw_image(rng: np.random.Generator, width: int,
               height: int) -> Tuple[np.ndarray, List[dict]]:
    """One image and its annotations (label, box as x, y, w, h, visible
    area)."""
    image = texture(rng, width, height)
    shapes, masks = [], []
    for _ in range(rng.integers(3, 11)):
        label = int(rng.integers(len(CLASSES)))
        # Log-uniform: as many small shapes as large ones.
        size = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
        center = rng.uniform((0, 0), (width, height))
        mask = np.zeros((height, width), np.uint8)
        points = outline(rng, label, center, size)
        cv2.fillPoly(mask, [points], 1)
        whole = max(cv2.contourArea(points), 1)
        hidden = [m & ~mask for m in masks]
        enough = mask.sum() >= LEAST_VISIBLE * whole and all(
            h.sum() >= LEAST_VISIBLE * shape['whole']
            for h, shape in zip(hidden, shapes))
        if not enough:
            continue
        masks = hidden + [mask]
        shapes.append(dict(label=label, whole=whole))
        # Between the ground's colour and the class's: contrast may be low.
        ground = image[mask > 0].mean(0)
        color = ground + rng.uniform(0.5, 1) * (TENDENCY[label] - ground)
        color += rng.normal(scale=20, size=3)
        paint = color + rng.normal(scale=10, size=image.shape)
        opacity = rng.uniform(0.75, 1.0) * mask[..., None]
        image = image * (1 - opacity) + paint * opacity
    annotations = []
    for shape, mask in zip(shapes, masks):
        x, y, w, h = cv2.boundingRect(mask)
        annotations.append(
            dict(
                label=shape['label'], bbox=[x, y, w, h], area=int(mask.sum())))
    return np.clip(cv2.GaussianBlur(image, (3, 3), 0), 0,
                   255).astype(np.uint8), annotations


def make_split(out: str, split: str, count: int, width: int, height: int,
               seed: Tuple[int, int]) -> None:
    """Draw the images of one split and write its COCO JSON."""
    os.makedirs(osp.join(out, split), exist_ok=True)
    images, annotations = [], []
    for index in track_iter_progress(list(range(count))):
        # A generator of its own: an image does not depend on the others.
        rng = np.random.default_rng((*seed, index))
        pixels, shapes = draw_image(rng, width, height)
        name = f'{index:05d}.jpg'
        cv2.imwrite(osp.join(out, split, name), pixels)
        images.append(
            dict(id=index, file_name=name, width=width, height=height))
        for shape in shapes:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=shape['label'] + 1,
                    bbox=shape['bbox'],
                    area=shape['area'],
                    iscrowd=0))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    folder = osp.join(out, 'annotations')
    os.makedirs(folder, exist_ok=True)
    with open(osp.join(folder, f'{split}.json'), 'w') as file:
        json.dump(
            dict(
                images=images, annotations=annotations, categories=categories),
            file)


def main() -> None:
    args = parse_args()
    for number, split in enumerate(('train', 'val', 'test')):
        make_split(args.out, split, getattr(args, split), args.width,
                   args.height, (args.seed, number))


if __name__ == '__main__':
    main()
