import warnings

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmtern.files import provenance
from mmtern.files.provenance import (Provenance, check_fit, of_checkpoint,
                                     of_config, warn_if_untrained)

FLOAT = dict(model=dict(type='RetinaNet', backbone=dict(type='ResNet')))
TERNARY = dict(
    model=dict(
        type='TernDetector',
        wrapped='RetinaNet',
        backbone=dict(type='ResNet', depth=18)))


@pytest.mark.parametrize('cfg,expected', [
    (FLOAT, Provenance(False, 'RetinaNet')),
    (TERNARY, Provenance(True, 'RetinaNet')),
    (dict(
        model=dict(
            type='mmdet.FasterRCNN',
            backbone=dict(type='TernBackbone', wrapped='ResNet'))),
     Provenance(True, 'FasterRCNN')),
    (dict(
        model=dict(type='FCOS', neck=dict(conv_cfg=dict(type='TernConv2d')))),
     Provenance(True, 'FCOS')),
    (dict(
        model=dict(
            type='SoftTeacher',
            detector=dict(type='TernDetector', wrapped='FasterRCNN'))),
     Provenance(True, 'SoftTeacher')),
    (dict(model=dict(type='DetTTAModel', module=TERNARY['model'])),
     Provenance(True, 'RetinaNet')),
    (dict(TERNARY, packed_untrained=True),
     Provenance(True, 'RetinaNet', untrained=True)),
    (dict(optimizer='SGD'), None),
])
def test_config_object_and_text_tell_the_same(cfg, expected):
    assert of_config(cfg) == of_config(Config(cfg)) == expected
    text = Config(cfg).pretty_text
    assert of_checkpoint(dict(cfg=text)) == expected


@pytest.mark.parametrize('text', [
    '', 'model = ', 'model = dict(**more)', 'model = open("{path}", "w")',
    'model = dict(type=open("{path}", "w"))', 'model = 5', 'x' * 10**5,
    'model = ' + '(' * 5000
])
def test_a_checkpoints_text_is_never_run(text, tmp_path):
    path = tmp_path / 'written'
    assert of_checkpoint(dict(cfg=text.replace('{path}', str(path)))) is None
    assert not path.exists()


def test_a_checkpoint_that_does_not_tell_is_left_alone():
    assert of_checkpoint({}) is None
    assert provenance.warning(TERNARY, dict(meta={}), 'x.pth') is None


@pytest.mark.parametrize('cfg,trained,path,words', [
    (TERNARY, FLOAT, 'x.pth', 'was trained in float'),
    (FLOAT, TERNARY, 'x.pth', 'latent weights in float'),
    (FLOAT, TERNARY, 'x.safetensors', None),
    (TERNARY, TERNARY, 'x.pth', None),
    (FLOAT, FLOAT, 'x.pth', None),
    (TERNARY, dict(TERNARY, packed_untrained=True), 'x.safetensors',
     'never trained ternary'),
])
def test_warning(cfg, trained, path, words):
    checkpoint = dict(meta=dict(cfg=Config(trained).pretty_text))
    said = provenance.warning(cfg, checkpoint, path, 'c.py')
    assert (said is None) == (words is None)
    assert words is None or words in said


def test_an_untrained_file_warns_and_a_trained_one_does_not():
    text = Config(dict(TERNARY, packed_untrained=True)).pretty_text
    with pytest.warns(UserWarning, match='x.safetensors.*never trained'):
        warn_if_untrained(text, 'x.safetensors')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warn_if_untrained(Config(TERNARY).pretty_text, 'x.safetensors')


def test_only_entries_that_change_the_result_must_fit():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    state = dict(model.state_dict())
    old = {f'module.{k}': v for k, v in state.items() if 'tracked' not in k}
    check_fit(model, dict(state_dict=dict(old, extra=torch.ones(1))), 'x.pth')
    meta = dict(cfg=Config(FLOAT).pretty_text)
    for wrong in ({
            k: v
            for k, v in state.items() if k != '0.weight'
    }, dict(state, **{'0.weight': torch.ones(4, 1, 1, 1)})):
        with pytest.raises(
                ValueError, match='a float RetinaNet and does not fit.*1 of'):
            check_fit(model, dict(state_dict=wrong, meta=meta), 'x.pth')
