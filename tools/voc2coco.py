"""Turn VOC-style annotations into COCO JSON, one file a split.

VOC counts pixels from 1 and includes both corners; COCO boxes are x, y, width,
height from 0. A box (1, 1, 10, 20) becomes [0, 0, 10, 20]. An object marked as
difficult becomes a crowd, which is neither trained on nor counted as missed,
as in mmdet's own converter. Sizes are those of the picture files, as mmdet
turns them. All text is UTF-8, whatever the locale says.
"""
import argparse
import json
import locale
import math
import os
import os.path as osp
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from functools import lru_cache
from typing import Dict, List, Optional, Tuple

from PIL import Image, UnidentifiedImageError

from mmtern.engine.cli import Parser, fail

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm',
            '.pgm', '.jp2')
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')
# The tag that tells how a picture is to be turned, and the values that
# exchange its sides.
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)

# What is told of a split in one line each; the number and the first file.
WARNINGS = dict(
    size='{} sizes in annotations are not their picture\'s, like that in {}; '
    'the picture\'s are written',
    degenerate='left out {} boxes without area, like one in {}',
    outside='left out {} boxes outside their picture, like one in {}',
    zero='{} boxes begin before pixel 1, where VOC counts from, like one in '
    '{}; are these annotations counted from 0? They were cut to the picture',
    beyond='{} boxes end beyond their picture, like one in {}; they were cut '
    'to it')


def parse_args() -> argparse.Namespace:
    parser = Parser(
        __doc__, 'python tools/voc2coco.py data/bccd/BCCD '
        'data/bccd/annotations --classes RBC WBC Platelets')
    parser.add_argument(
        'root', help='folder with Annotations, ImageSets/Main, JPEGImages')
    parser.add_argument('out', help='folder for SPLIT.json')
    parser.add_argument(
        '--classes', nargs='+', required=True, help='in category order')
    parser.add_argument(
        '--splits', nargs='+', default=['train', 'val', 'test'])
    return parser.parse_args()


@lru_cache(maxsize=None)
def listed(folder: str) -> Dict[str, List[str]]:
    """Files of a folder by their names in small letters."""
    found: Dict[str, List[str]] = {}
    if osp.isdir(folder):
        for name in sorted(os.listdir(folder)):
            found.setdefault(name.lower(), []).append(name)
    return found


def look_up(folder: str, name: str, endings: Tuple[str, ...]) -> List[str]:
    """Files ``name`` plus one of the endings, in any case where none agrees
    in each letter; relative to ``folder``."""
    above, base = osp.split(name)
    files = listed(osp.join(folder, above))
    found = []
    for ending in endings:
        found += files.get((base + ending).lower(), [])
    exact = [file for file in found if file.startswith(base)]
    return [osp.join(above, file) for file in exact or found]


def find_annotation(root: str, line: str, listing: str) -> Tuple[str, str]:
    """Name and path of the annotation that a line of a list names.

    VOC's per-class lists hold a second column, -1, 0 or 1. A name may hold
    spaces, so it is the folder that tells which it is.
    """
    folder = osp.join(root, 'Annotations')
    names, parts = [line], line.rsplit(None, 1)
    if len(parts) == 2 and parts[1] in ('-1', '0', '1'):
        names.append(parts[0])
    names += [osp.splitext(name)[0] for name in list(names)]
    for name in names:
        found = look_up(folder, name, ('.xml', ))
        if found:
            return name, osp.join(folder, found[0])
    name = names[1] if len(names) == 4 else line
    fail(f'{osp.join(folder, name)}.xml does not exist, but {listing} names '
         'it')


def find_picture(root: str, name: str, path: str,
                 stated: Optional[str]) -> str:
    """File in JPEGImages of an annotation: by the annotation's own name, as
    mmdet looks for it, and else by the one that it states."""
    folder = osp.join(root, 'JPEGImages')
    stated = osp.basename((stated or '').strip().replace('\\', '/'))
    found = look_up(folder, name, PICTURES)
    if len(found) > 1:
        # mmdet asks for .jpg, which comes first, where no name is stated.
        found = [f for f in found if osp.basename(f) == stated] or found
    if not found and stated:
        found = look_up(folder, osp.join(osp.dirname(name), stated),
                        ('', *PICTURES))
    if not found:
        # Named as the list names it, unless it ends as a picture does.
        ending = osp.splitext(stated)[1]
        ending = ending if ending.lower() in PICTURES else '.jpg'
        fail(f'{osp.join(folder, name + ending)} does not exist, but {path} '
             'describes it')
    return found[0]


def picture_size(path: str) -> Tuple[int, int]:
    """Width and height in pixels of a picture as mmdet loads it."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(ORIENTATION) in TURNED
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError,
            Image.DecompressionBombError) as error:
        fail(f'{path} cannot be read as a picture: {error}')
    return (height, width) if turned else (width, height)


def states_size(tree: ElementTree.Element, size: Tuple[int, int]) -> bool:
    """Whether an annotation tells this size, or none."""
    node = tree.find('size')
    if node is None:
        return True
    try:
        return size == tuple(
            float(node.findtext(key)) for key in ('width', 'height'))
    except (TypeError, ValueError):
        return False


def read_object(node: ElementTree.Element, classes: List[str],
                place: str) -> Tuple[int, List[float], int]:
    """Category id, corners as written, and whether it is difficult.

    Args:
        node (Element): The object.
        classes (list[str]): Names in category order.
        place (str): Words for file and object.
    """
    name = (node.findtext('name') or '').strip()
    if name not in classes:
        fail(f'{place} has the class {name!r}, but --classes lists '
             f'{", ".join(classes)}')
    corners = []
    for key in CORNERS:
        text = node.findtext(f'bndbox/{key}')
        try:
            corners.append(float(text))
        except (TypeError, ValueError):
            fail(f'{place}, a {name}, lacks {key} in its bndbox' if text is
                 None else f'{place}, a {name}, has {text!r} as {key}, which '
                 'is no number')
        if not math.isfinite(corners[-1]):
            fail(f'{place}, a {name}, has {text!r} as {key}, which is no '
                 'finite number')
    text = (node.findtext('difficult') or '').strip()
    try:
        difficult = float(text or 0)
    except ValueError:
        difficult = None
    if difficult not in (0, 1):
        fail(f'{place}, a {name}, has {text!r} as difficult, which must be 0 '
             'or 1')
    return classes.index(name) + 1, corners, int(difficult)


def to_coco(corners: List[float],
            size: Tuple[int, int]) -> Tuple[Optional[List[float]], List[str]]:
    """COCO box within a picture, None where there is none, and the keys of
    what to warn of."""
    left, top, right, bottom = corners
    if right <= left or bottom <= top:
        return None, ['degenerate']
    left, top = left - 1, top - 1
    if right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1]:
        return None, ['outside']
    warnings = []
    if left < 0 or top < 0:
        warnings.append('zero')
    if right > size[0] or bottom > size[1]:
        warnings.append('beyond')
    left, top = max(left, 0), max(top, 0)
    return [left, top,
            min(right, size[0]) - left,
            min(bottom, size[1]) - top], warnings


class Notes:
    """Counts what to warn of and remembers the first file."""

    def __init__(self) -> None:
        self.counts: Counter = Counter()
        self.first: Dict[str, str] = {}

    def add(self, key: str, path: str) -> None:
        self.counts[key] += 1
        self.first.setdefault(key, path)

    def lines(self) -> List[str]:
        return [
            text.format(self.counts[key], self.first[key])
            for key, text in WARNINGS.items() if self.counts[key]
        ]


def read_split(root: str, split: str,
               classes: List[str]) -> Tuple[dict, List[str]]:
    """COCO dict of a split, and what to warn of."""
    listing = osp.join(root, 'ImageSets', 'Main', f'{split}.txt')
    if not osp.isfile(listing):
        fail(f'{listing} does not exist')
    try:
        # Some editors begin a file with a mark of its encoding.
        with open(listing, encoding='utf-8-sig') as file:
            lines = [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError as error:
        fail(f'{listing} is no UTF-8 text: {error}')
    images, annotations, notes = [], [], Notes()
    for index, line in enumerate(lines):
        name, path = find_annotation(root, line, listing)
        try:
            tree = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            fail(f'{path} is no VOC annotation: {error}')
        picture = find_picture(root, name, path, tree.findtext('filename'))
        size = picture_size(osp.join(root, 'JPEGImages', picture))
        if not states_size(tree, size):
            notes.add('size', path)
        images.append(
            dict(
                id=index,
                file_name=picture.replace(os.sep, '/'),
                width=size[0],
                height=size[1]))
        for number, node in enumerate(tree.findall('object'), 1):
            category, corners, difficult = read_object(
                node, classes, f'object {number} of {path}')
            box, warnings = to_coco(corners, size)
            for key in warnings:
                notes.add(key, path)
            if box is None:
                continue
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=category,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=difficult,
                    difficult=difficult))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    coco = dict(images=images, annotations=annotations, categories=categories)
    return coco, notes.lines()


def use_utf8() -> None:
    """Start again where Python would read names as the locale says."""
    if not sys.flags.utf8_mode and locale.getpreferredencoding(
            False).lower().replace('-', '') != 'utf8':
        os.execve(sys.executable, [sys.executable, *sys.argv],
                  dict(os.environ, PYTHONUTF8='1'))


def main() -> None:
    args = parse_args()
    # All is read before anything is written.
    splits = {
        split: read_split(args.root, split, args.classes)
        for split in args.splits
    }
    os.makedirs(args.out, exist_ok=True)
    for split, (coco, warnings) in splits.items():
        path = osp.join(args.out, f'{split}.json')
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(coco, file)
        print(f'{path}: {len(coco["images"])} images, '
              f'{len(coco["annotations"])} boxes')
        for warning in warnings:
            print(f'warning: {split}: {warning}', file=sys.stderr)


if __name__ == '__main__':
    use_utf8()
    main()
