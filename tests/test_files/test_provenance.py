import shlex
import warnings
from argparse import ArgumentParser

import pytest
import torch
from mmengine.config import Config, DictAction
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


def ternary(**settings):
    return dict(model=dict(TERNARY['model'], ternary=settings))


@pytest.mark.parametrize('trained,own,path,options', [
    (ternary(), ternary(threshold='mean', floor=1.0), 'x.pth', None),
    (ternary(exclude=('a', )), ternary(exclude=['a']), 'x.pth', None),
    (ternary(), ternary(threshold='max'), 'x.pth', 'threshold=mean'),
    (ternary(model_sparsity=0.8), TERNARY, 'x.pth', 'model_sparsity=0.8'),
    (ternary(exclude=['neck', 'conv1']), TERNARY, 'x.pth',
     "'model.ternary.exclude=[neck,conv1]'"),
    (TERNARY, ternary(include=['neck']), 'x.pth', 'include=None'),
    (ternary(threshold='max',
             min_sparsity=0.6), TERNARY, 'x.safetensors', None),
    (ternary(scale='lsq'), TERNARY, 'x.safetensors', None),
    (ternary(scale='ttq'), TERNARY, 'x.safetensors', 'scale=ttq'),
    (ternary(stem=True), TERNARY, 'x.safetensors', 'stem=True'),
    (ternary(unknown=1), TERNARY, 'x.pth', None),
])
def test_other_settings_are_told_with_the_options_that_take_them(
        trained, own, path, options):
    checkpoint = dict(meta=dict(cfg=Config(trained).pretty_text))
    said = provenance.warning(own, checkpoint, path, 'c.py')
    assert provenance.other_settings(own, checkpoint, path, 'c.py') == said
    if options is None:
        assert said is None
        return
    assert options in said
    given = said[said.index('--cfg-options'):said.index(' to use')]
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    cfg = Config(own)
    cfg.merge_from_dict(
        vars(parser.parse_args(shlex.split(given)))['cfg_options'])
    assert provenance.warning(cfg, checkpoint, path, 'c.py') is None


def test_ternary_parts_at_other_places_are_told():
    parts = dict(
        model=dict(
            type='RetinaNet',
            backbone=dict(type='TernBackbone', wrapped='ResNet'),
            neck=[dict(type='TernNeck', wrapped='FPN')]))
    said = provenance.warning(TERNARY, dict(meta=dict(cfg=parts)), 'x.pth')
    assert 'ternary were model.backbone, model.neck.0, but of' in said


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


@pytest.mark.parametrize('own,tested,words', [
    (dict(classes=['a', 'b']), dict(classes=('a', 'b')), None),
    (dict(CLASSES=('a', 'b')), dict(classes=('b', 'a')), "0 is 'a', not 'b'"),
    (dict(classes=('a', 'b')), dict(classes=('a', )), '2, not 1'),
    ({}, dict(classes=('a', )), None),
    (dict(classes=('a', )), dict(classes=None), None),
])
def test_classes_of_another_data_set(own, tested, words):
    said = provenance.other_classes(own, tested, 'x.onnx')
    assert (said is None) == (words is None)
    assert words is None or said.endswith(words)
