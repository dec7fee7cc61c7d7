import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2

TOOL = Path(__file__).parent.parent.parent / 'tools' / 'make_shapes.py'


def make(out, *args):
    return subprocess.run([
        sys.executable,
        str(TOOL),
        str(out), '--train', '3', '--val', '2', '--test', '2', *args
    ],
                          capture_output=True,
                          text=True)


def digest(root):
    return {
        str(path.relative_to(root)):
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*')) if path.is_file()
    }


def test_deterministic_by_seed(tmp_path):
    for name, seed in (('a', '0'), ('b', '0'), ('c', '1')):
        assert make(tmp_path / name, '--seed', seed).returncode == 0
    assert digest(tmp_path / 'a') == digest(tmp_path / 'b')
    assert digest(tmp_path / 'a') != digest(tmp_path / 'c')


def test_boxes_lie_in_their_images(tmp_path):
    assert make(tmp_path, '--size', '160x120').returncode == 0
    for split, count in (('train', 3), ('val', 2), ('test', 2)):
        coco = json.loads(
            (tmp_path / 'annotations' / f'{split}.json').read_text())
        assert len(coco['images']) == count
        assert len(coco['annotations']) > 0
        for image in coco['images']:
            pixels = cv2.imread(str(tmp_path / split / image['file_name']))
            assert pixels.shape == (120, 160, 3)
        for annotation in coco['annotations']:
            x, y, w, h = annotation['bbox']
            assert x >= 0 and y >= 0 and x + w <= 160 and y + h <= 120
            assert 0 < annotation['area'] <= w * h
            assert annotation['category_id'] in (1, 2, 3)


def test_wrong_size_is_a_sentence(tmp_path):
    result = make(tmp_path, '--size', '320')
    assert result.returncode != 0
    assert "'320'" in result.stderr and 'Traceback' not in result.stderr
