"""Turn VOC-style annotations into COCO JSON, one file a split.

VOC counts pixels from 1 and includes both corners; COCO boxes are x, y, width,
height from 0. A box (1, 1, 10, 20) becomes [0, 0, 10, 20].
"""
import argparse
import json
import os
import os.path as osp
import sys
import xml.etree.ElementTree as ElementTree
from typing import List, Optional, Tuple

from mmtern.engine.cli import fail


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'root', help='folder with Annotations, ImageSets/Main, JPEGImages')
    parser.add_argument('out', help='folder for SPLIT.json')
    parser.add_argument(
        '--classes', nargs='+', required=True, help='in category order')
    parser.add_argument(
        '--splits', nargs='+', default=['train', 'val', 'test'])
    return parser.parse_args()


def read_object(node: ElementTree.Element, classes: List[str],
                path: str) -> Optional[Tuple[int, List[float]]]:
    """Category id and COCO box of one object; None if its box has no
    area."""
    name = node.findtext('name')
    if name not in classes:
        fail(f'{path} holds the class {name!r}, but --classes lists '
             f'{", ".join(classes)}')
    try:
        left, top, right, bottom = (
            float(node.findtext(f'bndbox/{key}'))
            for key in ('xmin', 'ymin', 'xmax', 'ymax'))
    except (TypeError, ValueError):
        fail(f'{path} holds a {name} whose bndbox lacks one of xmin, ymin, '
             'xmax, ymax')
    if right <= left or bottom <= top:
        return None
    box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
    return classes.index(name) + 1, box


def read_split(root: str, split: str, classes: List[str]) -> Tuple[dict, int]:
    """COCO dict of a split, and the number of degenerate boxes left out."""
    listing = osp.join(root, 'ImageSets', 'Main', f'{split}.txt')
    if not osp.isfile(listing):
        fail(f'{listing} does not exist')
    with open(listing) as file:
        # VOC's per-class lists hold a second column.
        names = [line.split()[0] for line in file if line.strip()]
    images, annotations, degenerate = [], [], 0
    for index, name in enumerate(names):
        path = osp.join(root, 'Annotations', f'{name}.xml')
        if not osp.isfile(path):
            fail(f'{path} does not exist, but {listing} names it')
        try:
            tree = ElementTree.parse(path).getroot()
            width, height = (
                int(tree.findtext(f'size/{key}'))
                for key in ('width', 'height'))
        except (ElementTree.ParseError, TypeError, ValueError) as error:
            fail(f'{path} is no VOC annotation: {error}')
        picture = tree.findtext('filename') or f'{name}.jpg'
        picture = name + (osp.splitext(picture)[1] or '.jpg')
        if not osp.isfile(osp.join(root, 'JPEGImages', picture)):
            fail(f'{osp.join(root, "JPEGImages", picture)} does not exist, '
                 f'but {path} describes it')
        images.append(
            dict(id=index, file_name=picture, width=width, height=height))
        for node in tree.findall('object'):
            found = read_object(node, classes, path)
            if found is None:
                degenerate += 1
                continue
            category, box = found
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=category,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                    difficult=int(node.findtext('difficult') or 0)))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    coco = dict(images=images, annotations=annotations, categories=categories)
    return coco, degenerate


def main() -> None:
    args = parse_args()
    # All is read before anything is written.
    splits = {
        split: read_split(args.root, split, args.classes)
        for split in args.splits
    }
    os.makedirs(args.out, exist_ok=True)
    for split, (coco, degenerate) in splits.items():
        path = osp.join(args.out, f'{split}.json')
        with open(path, 'w') as file:
            json.dump(coco, file)
        print(f'{path}: {len(coco["images"])} images, '
              f'{len(coco["annotations"])} boxes')
        if degenerate:
            print(
                f'warning: left out {degenerate} boxes without area in '
                f'{split}',
                file=sys.stderr)


if __name__ == '__main__':
    main()
