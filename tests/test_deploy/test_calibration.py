"""Images that activations are measured with."""
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmtern.deploy import calibration_images, save_onnx
from .test_boxes import images
from .test_export import META, PIPELINE, build


def images_of(folder, **data):
    init_default_scope('mmdet')
    cfg = Config(
        dict(test_dataloader=dict(dataset=dict(pipeline=PIPELINE)), **data))
    return list(calibration_images(cfg, folder=folder))


def test_a_folder_of_images(tmp_path):
    for name in 'ab':
        Image.fromarray(np.full((24, 32, 3), 7,
                                np.uint8)).save(tmp_path / f'{name}.png')
    (tmp_path / 'notes.txt').write_text('no image')
    found = images_of(str(tmp_path))
    assert [tuple(x.shape) for x in found] == [(3, 240, 320)] * 2
    assert all((x == 7).all() for x in found)


@pytest.mark.parametrize('data', [b'', b'no image'])
def test_an_image_that_cannot_be_read_is_named(tmp_path, data):
    (tmp_path / 'a.jpg').write_bytes(data)
    message = "calibration image '.*a.jpg' cannot be read"
    with pytest.raises(ValueError, match=message):
        images_of(str(tmp_path))
    # And in the training data.
    image = dict(id=1, file_name='a.jpg', width=32, height=24)
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 9, 9], area=81)
    (tmp_path / 'all.json').write_text(
        json.dumps(
            dict(
                images=[image],
                annotations=[dict(box, iscrowd=0)],
                categories=[dict(id=1, name='a')])))
    dataset = dict(
        type='CocoDataset',
        data_root=str(tmp_path),
        ann_file='all.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=('a', )))
    with pytest.raises(ValueError, match=message):
        images_of(None, train_dataloader=dict(dataset=dataset))


def test_turned_images_are_made_smaller(tmp_path):
    """Where a file takes one size only, which is that of others."""
    model, cfg = build('retinanet')
    turned = images(1)[0].repeat(1, 4, 3)[:, :320, :256]
    smaller = torch.nn.functional.interpolate(
        turned[None].float(), (256, 204), mode='bilinear')[0].byte()
    files = []
    for name, image in (('a', turned), ('b', smaller)):
        path = tmp_path / f'{name}.onnx'
        save_onnx(
            model,
            cfg,
            str(path),
            META,
            activations='int8',
            images=[image],
            input_size=(256, 320))
        files.append(path.read_bytes())
    assert files[0] == files[1]
