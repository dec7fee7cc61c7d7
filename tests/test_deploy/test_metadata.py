"""What a file says about making images fit is what the pipeline does."""
from copy import deepcopy

import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import Pad, Resize
from mmengine.config import Config

from mmtern.deploy.metadata import check_input_size, input_rules
from .test_export import PIPELINE

RESIZE = PIPELINE[1]


def rules_of(*transforms, channels=3, **loading):
    load = dict(PIPELINE[0], **loading)
    pipeline = [load, *deepcopy(transforms), PIPELINE[-1]]
    return input_rules(
        Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline)))),
        channels)


def test_rules_of_a_pipeline():
    plain = dict(
        resize=dict(mode='edges', scale=[320, 240]),
        pad=dict(size=None, divisor=32, square=False, value=114))
    pad = dict(type='mmdet.Pad', size_divisor=32, pad_val=dict(img=114))
    assert rules_of(RESIZE, pad) == plain
    # Defaults, and what changes no pixel.
    resize = dict(RESIZE, interpolation='bilinear', clip_object_border=False)
    pad.update(padding_mode='constant', _scope_='mmdet')
    assert rules_of(
        resize, pad, color_type='color', backend_args=dict(x=1)) == plain
    # As configs have it that import their types.
    assert rules_of(
        dict(resize, type=Resize), dict(pad, type=Pad),
        type=LoadImageFromFile) == plain
    assert rules_of(
        color_type='grayscale', channels=1) == dict(
            resize=None, pad=None)


@pytest.mark.parametrize('transforms, loading, told', [
    ([dict(RESIZE, interpolation='area')], {}, "Resize has interpolation='ar"),
    ([dict(RESIZE, backend='pillow')], {}, "Resize has backend='pillow'"),
    ([dict(type='Pad', size=(384, 320), padding_mode='reflect')
      ], {}, "Pad has padding_mode='reflect'"),
    ([], dict(imdecode_backend='tifffile'), 'File has imdecode_backend='),
    ([], dict(to_float32=True), 'LoadImageFromFile has to_float32=True'),
    ([], dict(color_type='grayscale'), "'color_type': 'grayscale'"),
    ([], dict(color_type='unchanged'), "'color_type': 'unchanged'"),
    ([dict(type='RandomFlip')], {}, "'type': 'RandomFlip'"),
])
def test_what_else_changes_pixels_is_refused(transforms, loading, told):
    with pytest.raises(ValueError, match=f'{told}.*--raw'):
        rules_of(*transforms, **loading)


@pytest.mark.parametrize('transforms, size, largest', [
    ([RESIZE], (160, 160), '240 x 320'),
    ([RESIZE], (240, 288), '240 x 320'),
    ([dict(RESIZE, keep_ratio=False)], (320, 256), '240 x 320'),
    ([RESIZE, dict(type='Pad', pad_to_square=True)], (256, 320), '320 x 320'),
    ([RESIZE, dict(type='Pad', size_divisor=64)], (240, 320), '256 x 320'),
    ([RESIZE, dict(type='Pad', size=(416, 384))], (384, 320), '384 x 416'),
])
def test_images_must_fit_into_the_input_size(transforms, size, largest):
    rules = rules_of(*transforms)
    with pytest.raises(ValueError, match=f'{largest} pixels.*{size[0]} x'):
        check_input_size(rules, size)
    check_input_size(rules, [int(x) for x in largest.split(' x ')])


def test_images_of_one_orientation_are_enough():
    check_input_size(rules_of(RESIZE), (320, 256))
    # And where nothing makes images fit they may be of any size.
    check_input_size(rules_of(), (32, 32))
