import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent.parent / 'tools' / 'voc2coco.py'
OBJECT = ('<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin>'
          '<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>')


@pytest.fixture
def voc(tmp_path):
    """One image with a good box and a degenerate one."""
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / 'ImageSets/Main/train.txt').write_text('a\n')
    (tmp_path / 'JPEGImages/a.jpg').write_bytes(b'')
    (tmp_path / 'Annotations/a.xml'
     ).write_text('<annotation><filename>a.jpg</filename>'
                  '<size><width>30</width><height>40</height></size>' +
                  OBJECT.format('cat', 1, 1, 10, 20) +
                  OBJECT.format('dog', 5, 5, 5, 9) + '</annotation>')
    return tmp_path


def convert(root, *classes):
    return subprocess.run([
        sys.executable,
        str(TOOL),
        str(root),
        str(root / 'out'), '--splits', 'train', '--classes', *classes
    ],
                          capture_output=True,
                          text=True)


def test_boxes_and_degenerate_ones(voc):
    result = convert(voc, 'dog', 'cat')
    assert result.returncode == 0, result.stderr
    assert 'left out 1 boxes' in result.stderr
    coco = json.loads((voc / 'out/train.json').read_text())
    annotation, = coco['annotations']
    assert annotation['bbox'] == [0, 0, 10, 20]
    assert annotation['area'] == 200
    assert annotation['category_id'] == 2
    assert coco['categories'][1] == dict(id=2, name='cat')
    assert coco['images'] == [
        dict(id=0, file_name='a.jpg', width=30, height=40)
    ]


@pytest.mark.parametrize(
    'missing',
    ['Annotations/a.xml', 'ImageSets/Main/train.txt', 'JPEGImages/a.jpg'])
def test_missing_files_are_named_and_nothing_is_written(voc, missing):
    (voc / missing).unlink()
    result = convert(voc, 'dog', 'cat')
    assert result.returncode != 0
    assert missing in result.stderr and 'Traceback' not in result.stderr
    assert not (voc / 'out').exists()


def test_unknown_class_is_named(voc):
    result = convert(voc, 'dog')
    assert result.returncode != 0
    assert "'cat'" in result.stderr and 'dog' in result.stderr
    assert not (voc / 'out').exists()


def test_broken_xml_is_named(voc):
    (voc / 'Annotations/a.xml').write_text('<annotation>')
    result = convert(voc, 'dog', 'cat')
    assert result.returncode != 0
    assert 'a.xml' in result.stderr and 'Traceback' not in result.stderr
