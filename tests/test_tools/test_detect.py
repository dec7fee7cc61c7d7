"""tools/detect.py needs three packages and finds what mmdet finds."""
import ast
import json
import os
import os.path as osp
import runpy
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from mmtern.deploy import save_onnx
from mmtern.deploy.export import PIXELS
from tests.test_deploy.test_boxes import spread
from tests.test_deploy.test_export import META, build

onnx = pytest.importorskip('onnx', '1.20')
pytest.importorskip('onnxruntime', '1.24')

ORIENTATION, MAKE = int(Base.Orientation), int(Base.Make)
ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
TOOL = osp.join(ROOT, 'tools', 'detect.py')


def detect(*arguments, **environment):
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)],
                          env=dict(os.environ, **environment),
                          capture_output=True,
                          text=True)


def save(path, *shape, dtype=np.uint8):
    """An image of noise; returns the path."""
    pixels = np.random.default_rng(0).integers(
        np.iinfo(dtype).max, size=shape, dtype=dtype)
    Image.fromarray(pixels).save(path)
    return path


def found(done):
    """Names, scores and boxes."""
    assert done.returncode == 0, done.stderr
    return [row.split() for row in done.stdout.splitlines()[:-1]]


@pytest.fixture(scope='module', params=PIXELS)
def model_file(tmp_path_factory, request):
    path = tmp_path_factory.mktemp('onnx') / 'a.onnx'
    model, cfg = build('retinanet')
    save_onnx(spread(model), cfg, str(path), META, pixels=request.param)
    return path


def test_it_imports_three_packages():
    with open(TOOL, encoding='utf-8') as file:
        tree = ast.parse(file.read())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split('.')[0])
    assert names - set(sys.stdlib_module_names) == {
        'numpy', 'onnxruntime', 'PIL'
    }


@pytest.mark.parametrize('mode, size', [('RGB', (150, 100)), ('L', (90, 120)),
                                        ('RGBA', (64, 64))])
def test_images_of_every_kind(tmp_path, model_file, mode, size):
    pixels = np.random.default_rng(0).integers(
        256, size=(size[1], size[0], len(mode)), dtype=np.uint8)
    image = Image.fromarray(pixels.squeeze(), mode)
    image.save(tmp_path / 'a.png')
    picture = tmp_path / 'out.png'
    done = detect(model_file, tmp_path / 'a.png', picture, '--score', 0)
    assert done.returncode == 0, done.stderr
    assert Image.open(picture).size == size
    rows = done.stdout.splitlines()[:-1]
    assert rows and all(row.split()[0] in META['classes'] for row in rows)


def test_16_bits_are_the_image_of_their_upper_8(tmp_path, model_file):
    """As OpenCV, and so mmdet, reads them."""
    wide = save(tmp_path / 'a.png', 60, 80, dtype=np.uint16)
    pixels = cv2.imread(str(wide), cv2.IMREAD_GRAYSCALE)
    Image.fromarray(pixels).save(tmp_path / 'b.png')
    rows = [
        found(detect(model_file, path, tmp_path / 'c.png', '--score', 0))
        for path in (wide, tmp_path / 'b.png')
    ]
    assert rows[0] == rows[1] != []


@pytest.mark.parametrize('tag', range(1, 9))
def test_turned_images(tmp_path, tag):
    turned = runpy.run_path(TOOL)['upright']
    image, exif = Image.open(save(tmp_path / 'a.png', 9, 7, 3)), Image.Exif()
    exif[ORIENTATION] = tag
    image.save(tmp_path / 'b.png', exif=exif)
    image = Image.open(tmp_path / 'b.png')
    expected = ImageOps.exif_transpose(image)
    assert np.array_equal(np.asarray(turned(image)), np.asarray(expected))
    # A tag of text that holds a number, which is written as no text.
    image.getexif()[MAKE] = 1.5
    assert np.array_equal(np.asarray(turned(image)), np.asarray(expected))


def test_a_line_of_pixels(tmp_path, model_file):
    image = save(tmp_path / 'a.png', 5000, 1)
    for row in found(
            detect(model_file, image, tmp_path / 'b.png', '--score', 0)):
        left, top, right, bottom = map(float, row[2:])
        assert 0 <= left <= right <= 1 and 0 <= top <= bottom <= 5000


def test_bad_files(tmp_path, model_file):
    text, image = tmp_path / 'text.png', save(tmp_path / 'a.png', 24, 32)
    text.write_text('no image')
    floats, bomb = tmp_path / 'a.tif', tmp_path / 'bomb.png'
    Image.fromarray(np.zeros((24, 32), np.float32)).save(floats)
    Image.new('1', (20000, 20000)).save(bomb)
    before = image.read_bytes()
    for arguments, message in [
        ((model_file, tmp_path / 'none.png'), 'does not exist'),
        ((model_file, text), 'cannot be read as an image'),
        ((model_file, bomb), 'cannot be read as an image: Image size'),
        ((model_file, floats), 'the image has 32 bits a pixel'),
        ((text, text), 'cannot read'),
        ((model_file, image, 'a.xyz'), "must end as an image does, as in .png "
         "or .jpg, but got 'a.xyz'"),
        ((model_file, image, 'none/a.png'), "folder 'none' does not exist"),
        ((model_file, image, image), 'PICTURE would replace'),
    ]:
        picture = [] if len(arguments) > 2 else [tmp_path / 'out.png']
        done = detect(*arguments, *picture)
        assert done.returncode == 1 and message in done.stderr
        assert done.stderr.startswith('error: ')
        assert done.stderr.count('\n') == 1
    assert image.read_bytes() == before
    done = detect(model_file)
    assert done.returncode == 1
    assert done.stderr.startswith('error: the following arguments are')


def test_class_names_that_the_console_lacks(tmp_path, model_file):
    file = onnx.load(model_file)
    (entry, ) = file.metadata_props
    facts = dict(json.loads(entry.value), classes=['\u732b'] * 3)
    entry.value = json.dumps(facts)
    onnx.save(file, tmp_path / 'a.onnx')
    image = save(tmp_path / 'a.png', 60, 80)
    rows = found(
        detect(
            tmp_path / 'a.onnx',
            image,
            tmp_path / 'b.png',
            '--score',
            0,
            PYTHONIOENCODING='ascii'))
    assert rows and all(row[0] == '\\u732b' for row in rows)


def test_boxes_of_one_size_end_where_the_image_does(tmp_path):
    """Images of another shape are made smaller, and it is said."""
    model, cfg = build('retinanet')
    with torch.no_grad():
        model.bbox_head.retina_reg.bias.fill_(2)  # large boxes
    path = tmp_path / 'a.onnx'
    save_onnx(model, cfg, str(path), META, input_size=(256, 320))
    for height, width, said in ((60, 80, ''), (80, 60, 'made smaller')):
        image = save(tmp_path / 'a.png', height, width, 3)
        done = detect(path, image, tmp_path / 'b.png', '--score', 0)
        boxes = np.array([row[2:] for row in found(done)], float)
        assert boxes.min() == 0
        assert boxes[:, 2:].max(0).tolist() == [width, height]
        assert said in done.stderr and bool(done.stderr) == bool(said)


def test_boxes_are_those_of_mmdet(tmp_path, model_file):
    """On an image that needs no resizing, box by box."""
    pixels = np.random.default_rng(1).integers(
        256, size=(240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    model, cfg = build('retinanet')
    spread(model)
    done = detect(model_file, tmp_path / 'a.png', tmp_path / 'b.png',
                  '--score', 0)
    rows = [row.split() for row in done.stdout.splitlines()[:-1]]
    image = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(240, 320),
            ori_shape=(240, 320),
            scale_factor=(1.0, 1.0)))
    found = model.test_step(
        pseudo_collate([dict(inputs=image,
                             data_samples=sample)]))[0].pred_instances
    assert len(rows) == len(found) > 0
    for row, box, score, label in zip(rows, found.bboxes, found.scores,
                                      found.labels):
        assert row[0] == META['classes'][label]
        assert float(row[1]) == pytest.approx(float(score), abs=1e-3)
        assert [float(x) for x in row[2:]] == pytest.approx(
            box.tolist(), abs=0.06)
