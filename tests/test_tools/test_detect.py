"""tools/detect.py needs three packages and finds what mmdet finds."""
import ast
import os.path as osp
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from PIL import Image

from mmtern.deploy import save_onnx
from mmtern.deploy.export import PIXELS
from tests.test_deploy.test_boxes import spread
from tests.test_deploy.test_export import META, build

pytest.importorskip('onnxruntime', '1.24')

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
TOOL = osp.join(ROOT, 'tools', 'detect.py')


def detect(*arguments):
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)],
                          capture_output=True,
                          text=True)


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


def test_bad_files(tmp_path, model_file):
    text = tmp_path / 'a.png'
    text.write_text('no image')
    for arguments, message in [
        ((model_file, tmp_path / 'none.png'), 'does not exist'),
        ((model_file, text), 'is no image'),
        ((text, text), 'cannot read'),
    ]:
        done = detect(*arguments)
        assert done.returncode == 1 and message in done.stderr
        assert done.stderr.startswith('error: ')
        assert done.stderr.count('\n') == 1
    done = detect(model_file)
    assert done.returncode == 1
    assert done.stderr.startswith('error: the following arguments are')


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
