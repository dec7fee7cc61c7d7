"""Split the photographs of VOC2007's official test set anew, into train, val
and test, by photographer: no series of pictures lies on both sides.

Reads VOCdevkit/VOC2007 and writes COCO files and images whose longest side is
320 pixels. Of a photographer, ``h = int(sha1(flickr id).hexdigest(), 16) %
100`` decides: below 20 is test, below 28 val, the rest train. Boxes marked
``difficult`` become ``iscrowd``, so that COCO's metric and mmdet's assigners
ignore them.
"""
import argparse
import hashlib
import json
import os
import os.path as osp
import xml.etree.ElementTree as ElementTree
from typing import Dict, List

from PIL import Image

from mmtern.engine.cli import Parser, fail

CLASSES = ('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car',
           'cat', 'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike',
           'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')
SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/split_voc07.py data/VOCdevkit/VOC2007 '
        'data/voc07')
    parser.add_argument(
        'root', help='folder with Annotations, ImageSets/Main, JPEGImages')
    parser.add_argument(
        'out', help='folder for SPLIT.json and images/, e.g. data/voc07')
    parser.add_argument('--longest', type=int, default=320, help='side')
    return parser.parse_args()


def split_of(owner: str) -> str:
    """The split that all pictures of a photographer lie in."""
    share = int(hashlib.sha1(owner.encode()).hexdigest(), 16) % 100
    if share < 20:
        return 'test'
    return 'val' if share < 28 else 'train'


def read_picture(path: str, number: int, longest: int) -> dict:
    """COCO's entry of an image, with ``objects``: its boxes at the size that
    the image will have.

    Args:
        path (str): VOC annotation.
        number (int): The image's id.
        longest (int): Side of the image that is written, in pixels.
    """
    try:
        tree = ElementTree.parse(path).getroot()
        width, height = (
            int(tree.findtext(f'size/{key}')) for key in ('width', 'height'))
        owner = tree.findtext('owner/flickrid')
        boxes = [_read_object(node) for node in tree.findall('object')]
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        fail(f'{path} is no VOC annotation: {error}')
    if owner is None:
        fail(f'{path} names no owner/flickrid, its photographer')
    scale = longest / max(width, height)
    size = round(width * scale), round(height * scale)
    across, down = size[0] / width, size[1] / height
    objects = []
    for category, difficult, (left, top, right, bottom) in boxes:
        # VOC counts pixels from 1 and includes both corners.
        box = [(left - 1) * across, (top - 1) * down,
               (right - left + 1) * across, (bottom - top + 1) * down]
        objects.append(
            dict(
                category_id=category,
                bbox=[round(value, 2) for value in box],
                area=round(box[2] * box[3], 2),
                iscrowd=difficult,
                difficult=difficult))
    return dict(
        id=number,
        file_name=osp.splitext(osp.basename(path))[0] + '.jpg',
        width=size[0],
        height=size[1],
        flickr_id=tree.findtext('source/flickrid'),
        owner=owner,
        objects=objects)


def _read_object(node: ElementTree.Element) -> tuple:
    """Category id, whether difficult, and corners of one object."""
    name = node.findtext('name')
    if name not in CLASSES:
        raise ValueError(f'{name!r} is none of its 20 classes')
    corners = [
        float(node.findtext(f'bndbox/{key}'))
        for key in ('xmin', 'ymin', 'xmax', 'ymax')
    ]
    difficult = int(node.findtext('difficult') or 0)
    return CLASSES.index(name) + 1, difficult, corners


def split_pictures(pictures: List[dict]) -> Dict[str, dict]:
    """COCO's dict of each split. Boxes keep the number that they have in the
    official list, so that splits can be put together again."""
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    found = {
        split: dict(images=[], annotations=[], categories=categories)
        for split in SPLITS
    }
    number = 0
    for picture in pictures:
        coco = found[split_of(picture['owner'])]
        image = {k: v for k, v in picture.items() if k != 'objects'}
        coco['images'].append(image)
        for box in picture['objects']:
            number += 1
            coco['annotations'].append(
                dict(id=number, image_id=picture['id'], **box))
    return found


def main() -> None:
    args = parse_args()
    if args.longest < 1:
        fail(f'--longest must be at least 1, got {args.longest}')
    listing = osp.join(args.root, 'ImageSets', 'Main', 'test.txt')
    if not osp.isfile(listing):
        fail(f'{listing} does not exist')
    with open(listing) as file:
        names = file.read().split()
    pictures = []
    for name in names:
        annotation = osp.join(args.root, 'Annotations', f'{name}.xml')
        image = osp.join(args.root, 'JPEGImages', f'{name}.jpg')
        for path in (annotation, image):
            if not osp.isfile(path):
                fail(f'{path} does not exist, but {listing} names it')
        pictures.append(read_picture(annotation, int(name), args.longest))
    os.makedirs(osp.join(args.out, 'images'), exist_ok=True)
    for picture in pictures:
        name = picture['file_name']
        with Image.open(osp.join(args.root, 'JPEGImages', name)) as image:
            small = image.convert('RGB').resize(
                (picture['width'], picture['height']),
                Image.Resampling.LANCZOS)
        small.save(osp.join(args.out, 'images', name), quality=85)
    for split, coco in split_pictures(pictures).items():
        path = osp.join(args.out, f'{split}.json')
        with open(path, 'w') as file:
            json.dump(coco, file)
        print(f'{path}: {len(coco["images"])} images, '
              f'{len(coco["annotations"])} boxes')


if __name__ == '__main__':
    main()
