"""Detect objects with a file of tools/export.py and nothing but onnxruntime,
numpy and Pillow: python detect.py OUT.onnx IMAGE [PICTURE]."""
import argparse
import json
import os
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError


def fit(image, rules):
    """The image resized and padded as in training, (H, W, C), and the factors
    of its width and height."""
    width, height = image.size
    new, resize, fixed = (width, height), rules['resize'], rules['input_size']
    if resize and resize['mode'] == 'stretch':
        new = tuple(resize['scale'])
    elif resize:
        scale = resize['scale']
        factor = min(
            max(scale) / max(image.size),
            min(scale) / min(image.size))
        new = (int(width * factor + .5), int(height * factor + .5))
    if fixed and (new[0] > fixed[1] or new[1] > fixed[0]):
        factor = min(fixed[1] / new[0], fixed[0] / new[1])
        new = (int(new[0] * factor), int(new[1] * factor))
    if new != (width, height):
        # Bilinear without smoothing, as OpenCV resizes.
        image = image.transform(new, Image.Transform.AFFINE,
                                (width / new[0], 0, 0, 0, height / new[1], 0),
                                Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(new[1], new[0], -1)
    target, value, pad = list(new), rules['fill'], rules['pad']
    if pad:
        value = [pad['value']]
        target = pad['size'] or target
        target = [max(target)] * 2 if pad['square'] else target
        step = pad['divisor'] or 1
        target = [-(-side // step) * step for side in target]
    target = [fixed[1], fixed[0]] if fixed else target
    shape = (max(target[1], new[1]), max(target[0], new[0]), pixels.shape[2])
    padded = np.empty(shape, np.uint8)
    padded[:] = value
    padded[:new[1], :new[0]] = pixels
    return padded, np.array([new[0] / width, new[1] / height] * 2, np.float32)


def detect(session, image):
    """Boxes (K, 4) in pixels of the image, scores and labels."""
    rules = json.loads(session.get_modelmeta().custom_metadata_map.get(
        'mmtern', '{}'))
    if rules.get('form') != 'boxes' or rules['channels'] not in (1, 3):
        sys.exit('error: this file does not put out boxes of a gray or color '
                 'image; write it with tools/export.py, without --raw')
    mode = 'RGB' if rules['channels'] == 3 else 'L'
    image = ImageOps.exif_transpose(image).convert(mode)
    pixels, factors = fit(image, rules)
    batch = np.ascontiguousarray(
        pixels.transpose(2, 0, 1)[None], rules.get('pixels', 'uint8'))
    boxes, scores, labels = session.run(None, {'image': batch})
    return boxes[0] / factors, scores[0], labels[0], rules['classes']


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='example: python tools/detect.py ternary.onnx image.jpg')
    # As in the other tools, whose parser this file cannot import.
    parser.error = lambda message: sys.exit(
        f'error: {message}; --help lists what is accepted')
    parser.add_argument('model', help='OUT.onnx')
    parser.add_argument('image')
    parser.add_argument('picture', nargs='?', default='detections.png')
    parser.add_argument('--score', type=float, default=0.3, help='least score')
    return parser.parse_args(argv)


def main():
    args = parse_args()
    for path in (args.model, args.image):
        if not os.path.isfile(path):
            sys.exit(f'error: {path!r} does not exist')
    try:
        session = onnxruntime.InferenceSession(
            args.model, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's have no common base but this
        sys.exit(f'error: onnxruntime cannot read {args.model!r}: '
                 f'{" ".join(str(error).split())[:200]}')
    try:
        image = Image.open(args.image)
        image.load()
    except (UnidentifiedImageError, OSError) as error:
        sys.exit(f'error: {args.image!r} is no image: {error}')
    found = detect(session, image)
    picture = ImageOps.exif_transpose(image).convert('RGB')
    draw = ImageDraw.Draw(picture)
    for box, score, label in zip(*found[:3]):
        if score >= args.score:
            name = found[3][label]
            print(f'{name} {score:.3f}', *(f'{side:.1f}' for side in box))
            draw.rectangle([float(side) for side in box], outline='red')
            draw.text((float(box[0]) + 2, float(box[1]) + 1),
                      f'{name} {score:.2f}',
                      fill='red')
    picture.save(args.picture)
    print(f'drawn on {args.picture}')


if __name__ == '__main__':
    main()
