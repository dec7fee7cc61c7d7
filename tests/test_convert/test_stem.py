"""The stem is found by its place, not by its number of channels alone."""
import pytest
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from torch import nn

from mmtern import Scope, convert, survey, ternary_layers
from mmtern.convert import image_readers
from ..small_detectors import build, small_retinanet, ternary_twin


def stems(module: nn.Module) -> list:
    return [
        x.name for x in module.conversion_report.left if x.reason == 'stem'
    ]


def retinanet_of(channels: int) -> ConfigDict:
    """A detector for images of any number of channels, which mmdet's
    preprocessor takes without a mean."""
    model = small_retinanet(in_channels=channels)
    model.data_preprocessor = dict(type='DetDataPreprocessor')
    return model


@pytest.mark.parametrize('channels', [1, 3, 4, 6])
def test_first_conv_of_a_detector(channels):
    model = ternary_twin(retinanet_of(channels))
    detector = build(model)
    assert stems(detector) == ['backbone.conv1']
    model.ternary.stem = True
    assert 'backbone.conv1' in ternary_layers(build(model))


@pytest.mark.parametrize('channels', [1, 3, 4, 6])
def test_first_conv_of_a_backbone_alone(channels):
    model = retinanet_of(channels)
    plain = build(model.backbone)
    assert image_readers(plain) == {'conv1'}
    model.backbone.update(type='TernBackbone', wrapped='ResNet')
    model.neck.update(type='TernNeck', wrapped='FPN')
    detector = build(model)
    assert stems(detector.backbone) == ['conv1']
    assert not stems(detector.neck)


def test_few_channels_further_on_are_no_stem():
    """Whatever the image has: three channels, or as many as they."""
    for channels in (3, 4):
        model = ternary_twin(retinanet_of(channels))
        model.backbone.base_channels = 4
        model.neck.in_channels = [4, 8, 16, 32]
        detector = build(model)
        assert stems(detector) == ['backbone.conv1']
        layer = ternary_layers(detector)['backbone.layer1.0.conv1']
        assert layer.in_channels == 4


def test_one_value_of_mean_for_all_channels():
    model = ternary_twin(retinanet_of(6))
    model.data_preprocessor.update(mean=[127.0], std=[58.0])
    assert stems(build(model)) == ['backbone.conv1']


@pytest.mark.parametrize('channels', [3, 4, 8])
def test_a_neck_reads_no_image(channels):
    neck = build(
        ConfigDict(
            type='TernNeck',
            wrapped='ChannelMapper',
            in_channels=[channels if channels != 3 else 5, 16],
            kernel_size=3,
            out_channels=16,
            num_outs=2))
    assert not neck.conversion_report.left


class TwoBranches(nn.Module):
    """Colour and infrared, each through layers of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.color, self.infrared = (
            nn.Sequential(
                nn.Conv2d(channels, 16, 3, stride=2), nn.Conv2d(16, 16, 3))
            for _ in range(2))
        self.fuse = nn.Conv2d(32, 16, 1)


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_both_branches_that_read_the_image(channels):
    model = TwoBranches(channels)
    report = convert(model)
    assert [x.name for x in report.left] == ['color.0', 'infrared.0']
    assert {x.reason for x in report.left} == {'stem'}


@pytest.mark.parametrize('name, expected', [
    ('yolox/yolox_s_8xb8-300e_coco.py', {'backbone.stem.conv.conv'}),
    ('swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
     {'backbone.patch_embed.projection'}),
    ('detectors/detectors_cascade-rcnn_r50_1x_coco.py',
     {'backbone.conv1', 'neck.rfp_modules.0.conv1'}),
    ('ssd/ssd300_coco.py', {'backbone.features.0'}),
    ('resnest/faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco.py',
     {f'backbone.stem.{i}'
      for i in (0, 3, 6)}),
])
def test_detectors_of_mmdet(name, expected):
    model = get_config(f'mmdet::{name}').model
    detector = build(model)
    assert image_readers(detector) == expected
    # The wrappers of parts come to the same.
    found = {
        f'{part}.{name}'
        for part, reads in (('backbone', True), ('neck', False))
        for name in image_readers(getattr(detector, part, nn.Module()), reads)
    }
    assert found == expected


def test_student_and_teacher_have_a_stem_each():
    cfg = get_config('mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_'
                     'fpn_180k_semi-0.1-coco.py').model
    assert image_readers(
        build(cfg)) == {'student.backbone.conv1', 'teacher.backbone.conv1'}


def test_survey_is_told_like_convert():
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    assert not survey(model, Scope()).left
    report = survey(model, Scope(), reads_image=True)
    assert [(x.name, x.reason) for x in report.left] == [('0', 'stem')]
