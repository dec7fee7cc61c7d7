import io
import json
import os
import runpy
import subprocess
import sys
from collections import namedtuple
from contextlib import redirect_stderr
from pathlib import Path

import mmcv
import pytest
from PIL import Image

TOOL = Path(__file__).parent.parent.parent / 'tools' / 'voc2coco.py'
OBJECT = ('<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin>'
          '<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>')


def draw(path, size=(30, 40), **kwargs):
    Image.new('RGB', size).save(path, **kwargs)


@pytest.fixture
def voc(tmp_path):
    """One image with a good box and a degenerate one."""
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / 'ImageSets/Main/train.txt').write_text('a\n')
    draw(tmp_path / 'JPEGImages/a.jpg')
    (tmp_path / 'Annotations/a.xml'
     ).write_text('<annotation><filename>a.jpg</filename>'
                  '<size><width>30</width><height>40</height></size>' +
                  OBJECT.format('cat', 1, 1, 10, 20) +
                  OBJECT.format('dog', 5, 5, 5, 9) + '</annotation>')
    return tmp_path


Result = namedtuple('Result', 'returncode stderr')


def arguments(root, classes):
    return [
        str(TOOL),
        str(root),
        str(root / 'out'), '--splits', 'train', '--classes', *classes
    ]


def convert(root, *classes):
    """The tool in this process."""
    argv, errors = sys.argv, io.StringIO()
    sys.argv = arguments(root, classes)
    try:
        with redirect_stderr(errors):
            runpy.run_path(str(TOOL))['main']()
    except SystemExit as stop:
        return Result(1, f'{stop}\n')
    finally:
        sys.argv = argv
    return Result(0, errors.getvalue())


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


SIZE = '<size><width>30</width><height>40</height></size>'


def annotate(root, *objects, name='a', size=SIZE, filename='a.jpg'):
    (root / 'Annotations' / f'{name}.xml'
     ).write_text(f'<annotation><filename>{filename}</filename>{size}' +
                  ''.join(objects) + '</annotation>')


def converted(root):
    """What is written, and what is warned of."""
    result = convert(root, 'dog', 'cat')
    assert result.returncode == 0, result.stderr
    return json.loads((root / 'out/train.json').read_text()), result.stderr


def refused(root, *words):
    result = convert(root, 'dog', 'cat')
    assert result.returncode == 1 and not (root / 'out').exists()
    assert result.stderr.startswith('error: ') and result.stderr.count(
        '\n') == 1
    assert all(word in result.stderr for word in words), result.stderr


def box(*corners, name='cat', extra=''):
    return OBJECT.format(name, *corners).replace('<bndbox>',
                                                 extra + '<bndbox>')


@pytest.mark.parametrize('text, difficult', [('1', 1), ('1.0', 1), (' 1 ', 1),
                                             ('0', 0), ('0.0', 0), ('', 0)])
def test_difficult_objects_are_crowds(voc, text, difficult):
    extra = f'<difficult>{text}</difficult>'
    annotate(voc, box(1, 1, 10, 20, extra=extra), box(2, 2, 9, 9))
    coco, _ = converted(voc)
    assert [a['iscrowd'] for a in coco['annotations']] == [difficult, 0]


@pytest.mark.parametrize('text', ['Unspecified', 'yes', 'nan', '2', '0.5'])
def test_any_other_difficulty_is_named(voc, text):
    annotate(voc, box(1, 1, 10, 20),
             box(1, 1, 9, 9, extra=f'<difficult>{text}</difficult>'))
    refused(voc, 'object 2 of', 'a.xml', repr(text), 'must be 0 or 1')


@pytest.mark.parametrize('corners, word', [((1, 'NaN', 9, 9), 'ymin'),
                                           ((1, 1, 'inf', 9), 'xmax'),
                                           (('1,5', 1, 9, 9), 'xmin'),
                                           ((1, 1, 9, ''), 'ymax')])
def test_a_corner_that_is_no_number_is_named(voc, corners, word):
    annotate(voc, box(*corners))
    refused(voc, 'object 1 of', 'a.xml', word, 'number')


def test_an_object_without_a_box_is_named(voc):
    annotate(voc, '<object><name>cat</name><polygon/></object>')
    refused(voc, 'object 1 of', 'a.xml', 'lacks xmin')


def test_names_may_stand_on_lines_of_their_own_and_parts_inside(voc):
    part = '<part>' + OBJECT.format('head', 2, 2, 3, 3)[8:-9] + '</part>'
    annotate(voc, box(1, 1, 10, 20, name='\n cat\n ', extra=part))
    annotation, = converted(voc)[0]['annotations']
    assert annotation['bbox'] == [0, 0, 10, 20]


@pytest.mark.parametrize('corners, expected, warning', [
    ((1, 1, 30, 40), [0, 0, 30, 40], ''),
    ((1.5, 1.25, 9.75, 9), [0.5, 0.25, 9.25, 8.75], ''),
    ((0, 0, 29, 39), [0, 0, 29, 39], '1 boxes begin before pixel 1'),
    ((20, 1, 50, 40), [19, 0, 11, 40], '1 boxes end beyond'),
    ((40, 1, 50, 40), None, '1 boxes outside'),
    ((20, 20, 10, 10), None, '1 boxes without area'),
])
def test_boxes_are_cut_to_the_picture(voc, corners, expected, warning):
    annotate(voc, box(*corners))
    coco, warnings = converted(voc)
    assert [a['bbox']
            for a in coco['annotations']] == [expected] * bool(expected)
    assert warning in warnings and warnings.count('\n') == bool(warning)
    assert not warning or 'a.xml' in warnings


@pytest.mark.parametrize('size, disagrees', [
    ('', False),
    ('<size><width>30.0</width><height>40</height></size>', False),
    ('<size><width>0</width><height>0</height></size>', True),
    ('<size><width>40</width><height>30</height></size>', True),
    ('<size><width>big</width><height>40</height></size>', True),
    ('<size><depth>3</depth></size>', True),
])
def test_the_picture_is_asked_for_its_size(voc, size, disagrees):
    annotate(voc, size=size)
    coco, warnings = converted(voc)
    image, = coco['images']
    assert (image['width'], image['height']) == (30, 40)
    assert ('1 sizes in annotations' in warnings) == disagrees
    assert warnings.count('\n') == disagrees


def test_a_turned_picture_has_the_size_that_mmdet_sees(voc):
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(voc / 'JPEGImages/a.jpg', (40, 30), exif=exif)
    annotate(voc, size='')
    image, = converted(voc)[0]['images']
    loaded = mmcv.imread(str(voc / 'JPEGImages/a.jpg'))
    assert (image['height'], image['width']) == loaded.shape[:2] == (40, 30)


def test_what_is_no_picture_is_named(voc):
    (voc / 'JPEGImages/a.jpg').write_bytes(b'no picture')
    refused(voc, 'a.jpg', 'cannot be read as a picture')


@pytest.mark.parametrize('line, name, picture, stated', [
    ('my cat 1', 'my cat 1', 'my cat 1.jpg', 'my cat 1.jpg'),
    ('my cat  1', 'my cat', 'my cat.jpg', 'my cat.jpg'),
    ('cat\t-1', 'cat', 'cat.jpg', 'cat.jpg'),
    ('a.b.c', 'a.b.c', 'a.b.c.jpg', 'a.b.c'),
    ('cat', 'cat', 'cat.jpg', 'other.jpg'),
    ('cat', 'cat', 'cat.png', 'C:\\data\\cat.jpg'),
    ('cat', 'cat', 'stated.jpg', 'stated.jpg'),
    ('cat', 'cat', 'cat.JPG', 'cat.jpg'),
    ('cat', 'cat', 'Cat.Jpeg', ''),
    ('cat.jpg', 'cat', 'cat.jpg', ''),
    ('sub/cat', 'sub/cat', 'sub/cat.jpg', 'cat.jpg'),
    ('\ufeffcat', 'cat', 'cat.jpg', 'cat.jpg'),
    ('Größe 猫', 'Größe 猫', 'Größe 猫.jpg', ''),
])
def test_names_are_looked_up_in_the_folder(voc, line, name, picture, stated):
    (voc / 'Annotations/sub').mkdir()
    (voc / 'JPEGImages/sub').mkdir()
    (voc / 'ImageSets/Main/train.txt').write_text(
        line + '\n', encoding='utf-8')
    annotate(voc, name=name, filename=stated)
    draw(voc / 'JPEGImages' / picture)
    coco, warnings = converted(voc)
    assert coco['images'][0]['file_name'] == picture and not warnings


def test_text_is_utf8_in_any_locale(voc):
    (voc / 'ImageSets/Main/train.txt').write_text(
        'Größe 猫\n', encoding='utf-8')
    annotate(voc, box(1, 1, 5, 5), name='Größe 猫')
    draw(voc / 'JPEGImages/Größe 猫.jpg')
    result = subprocess.run([sys.executable, *arguments(voc, ['Löwe', 'cat'])],
                            env=dict(
                                os.environ,
                                LC_ALL='C',
                                PYTHONUTF8='0',
                                PYTHONCOERCECLOCALE='0'),
                            capture_output=True)
    assert result.returncode == 0, result.stderr
    coco = json.loads((voc / 'out/train.json').read_text())
    assert coco['images'][0]['file_name'] == 'Größe 猫.jpg'
    assert coco['categories'][0]['name'] == 'Löwe'
