import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TOOL = Path(__file__).parent.parent.parent / 'tools' / 'split_voc07.py'
# By sha1: 41, 9 and 26 of 100.
OWNERS = {'train': 'paytonc', 'test': 'hiromori2', 'val': 'Fried Camels'}
OBJECT = ('<object><name>{}</name><difficult>{}</difficult><bndbox>'
          '<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>'
          '</bndbox></object>')


@pytest.fixture
def voc(tmp_path):
    """One photograph of each of three photographers, one more of the first;
    the dog is that of VOC2007's 000001."""
    root = tmp_path / 'VOC2007'
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    dog = OBJECT.format('dog', 0, 48, 240, 195, 371)
    chair = OBJECT.format('chair', 1, 1, 1, 353, 500)
    pictures = {
        '000001': (OWNERS['val'], dog),
        '000002': (OWNERS['test'], dog),
        '000004': (OWNERS['train'], dog + chair),
        '000006': (OWNERS['train'], ''),
    }
    (root / 'ImageSets/Main/test.txt').write_text('\n'.join(pictures))
    for name, (owner, objects) in pictures.items():
        Image.new('RGB', (353, 500)).save(root / f'JPEGImages/{name}.jpg')
        (root / f'Annotations/{name}.xml').write_text(
            f'<annotation><source><flickrid>7</flickrid></source><owner>'
            f'<flickrid>{owner}</flickrid></owner><size><width>353</width>'
            f'<height>500</height></size>{objects}</annotation>')
    return root


def split(root, *options):
    return subprocess.run(
        [sys.executable,
         str(TOOL),
         str(root),
         str(root / 'out'), *options],
        capture_output=True,
        text=True)


def test_pictures_of_a_photographer_stay_together(voc):
    result = split(voc)
    assert result.returncode == 0, result.stderr
    coco = {
        name: json.loads((voc / f'out/{name}.json').read_text())
        for name in OWNERS
    }
    files = {
        name: [x['file_name'] for x in found['images']]
        for name, found in coco.items()
    }
    assert files == {
        'train': ['000004.jpg', '000006.jpg'],
        'val': ['000001.jpg'],
        'test': ['000002.jpg']
    }
    dog, = coco['val']['annotations']
    # As scaled by 226 / 353 and 320 / 500; pixels count from 0.
    assert dog == dict(
        id=1,
        image_id=1,
        category_id=12,
        bbox=[30.09, 152.96, 94.75, 84.48],
        area=8004.78,
        iscrowd=0,
        difficult=0)
    # Difficult ones are ignored; numbers go on over the splits.
    assert [(x['id'], x['iscrowd'])
            for x in coco['train']['annotations']] == [(3, 0), (4, 1)]
    assert len(coco['train']['categories']) == 20
    with Image.open(voc / 'out/images/000001.jpg') as image:
        assert image.size == (226, 320)


@pytest.mark.parametrize('missing', [
    'Annotations/000001.xml', 'JPEGImages/000002.jpg',
    'ImageSets/Main/test.txt'
])
def test_missing_files_are_named_and_nothing_is_written(voc, missing):
    (voc / missing).unlink()
    result = split(voc)
    assert result.returncode == 1
    assert result.stderr.startswith('error: ') and missing in result.stderr
    assert not (voc / 'out').exists()


@pytest.mark.parametrize('old, new, words', [
    ('<name>dog', '<name>unicorn', "'unicorn' is none of its 20 classes"),
    (f'<owner><flickrid>{OWNERS["val"]}</flickrid></owner>', '',
     'names no owner/flickrid, its photographer'),
    ('<width>353', '<width>', 'is no VOC annotation'),
])
def test_annotations_of_another_kind(old, new, words, voc):
    path = voc / 'Annotations/000001.xml'
    path.write_text(path.read_text().replace(old, new))
    result = split(voc)
    assert result.returncode == 1
    assert words in result.stderr and str(path) in result.stderr
    assert not (voc / 'out').exists()
