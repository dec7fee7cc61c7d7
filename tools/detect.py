"""Detect objects with a file of tools/export.py and nothing but onnxruntime,
numpy and Pillow: python detect.py OUT.onnx IMAGE [PICTURE]."""
import argparse
import json
import os
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

# Tag of EXIF, and how its values want an image to be turned.
ORIENTATION = 0x112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90
}


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
        print(
            f'note: the file takes {fixed[1]} x {fixed[0]} pixels (width x '
            'height), for which this image is made smaller',
            file=sys.stderr)
        factor = min(fixed[1] / new[0], fixed[0] / new[1])
        new = (int(new[0] * factor), int(new[1] * factor))
    new = (max(1, new[0]), max(1, new[1]))  # of a line of pixels
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


def upright(image):
    """The image as it is to be seen, with 8 bits a channel."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # Pillow's readers of odd tags raise what they meet
        turn = None
    # Pillow's own exif_transpose writes all tags anew, and fails at odd ones.
    image = image if turn is None else image.transpose(turn)
    if image.mode.startswith('I;16'):
        # As OpenCV does; Pillow would cut off at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ('I', 'F'):
        sys.exit('error: the image has 32 bits a pixel, which have no known '
                 'range; it must have 8 or 16 bits a channel')
    return image


def detect(session, image):
    """Boxes (K, 4) in pixels of the image, scores and labels."""
    rules = json.loads(session.get_modelmeta().custom_metadata_map.get(
        'mmtern', '{}'))
    if rules.get('form') != 'boxes' or rules['channels'] not in (1, 3):
        sys.exit('error: this file does not put out boxes of a gray or color '
                 'image; write it with tools/export.py, without --raw')
    mode = 'RGB' if rules['channels'] == 3 else 'L'
    image = upright(image).convert(mode)
    pixels, factors = fit(image, rules)
    batch = np.ascontiguousarray(
        pixels.transpose(2, 0, 1)[None], rules.get('pixels', 'uint8'))
    try:
        boxes, scores, labels = session.run(None, {'image': batch})
    except Exception as error:  # onnxruntime's have no common base but this
        sys.exit(f'error: onnxruntime cannot run the file: {in_short(error)}')
    # Some heads put out boxes that reach beyond the image.
    boxes = np.clip(boxes[0] / factors, 0, image.size * 2)
    return boxes, scores[0], labels[0], rules['classes']


def in_short(error):
    return ' '.join(str(error).split())[:200]


def check_picture(picture, *sources):
    """Refuse a picture that cannot be written, or would replace a source."""
    ending = os.path.splitext(picture)[1].lower()
    if Image.registered_extensions().get(ending) not in Image.SAVE:
        sys.exit('error: PICTURE must end as an image does, as in .png or '
                 f'.jpg, but got {picture!r}')
    folder = os.path.dirname(picture) or '.'
    if not os.path.isdir(folder):
        sys.exit(f'error: folder {folder!r} does not exist')
    if os.path.exists(picture):
        for source in sources:
            if os.path.samefile(picture, source):
                sys.exit(f'error: PICTURE would replace {source!r}; give it '
                         'another name')


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
    check_picture(args.picture, args.model, args.image)
    # Class names may be in any script, which a console may not have.
    sys.stdout.reconfigure(errors='backslashreplace')
    try:
        session = onnxruntime.InferenceSession(
            args.model, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's have no common base but this
        sys.exit(f'error: onnxruntime cannot read {args.model!r}: '
                 f'{in_short(error)}')
    try:
        image = Image.open(args.image)
        image.load()
    except Exception as error:  # Pillow's have no common base but this
        sys.exit(f'error: {args.image!r} cannot be read as an image: '
                 f'{in_short(error)}')
    found = detect(session, image)
    picture = upright(image).convert('RGB')
    draw = ImageDraw.Draw(picture)
    for box, score, label in zip(*found[:3]):
        if score >= args.score:
            name = found[3][label]
            print(f'{name} {score:.3f}', *(f'{side:.1f}' for side in box))
            draw.rectangle([float(side) for side in box], outline='red')
            # Pillow's simplest font has no other letters.
            name = name.encode('latin-1', 'replace').decode('latin-1')
            draw.text((float(box[0]) + 2, float(box[1]) + 1),
                      f'{name} {score:.2f}',
                      fill='red')
    try:
        picture.save(args.picture)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {args.picture!r} cannot be written: '
                 f'{in_short(error)}')
    print(f'drawn on {args.picture}')


if __name__ == '__main__':
    main()
