"""The wrappers beside what mmdet's configs combine them with."""
import copy

import pytest
import torch
from mmdet.engine.hooks import MeanTeacherHook
from mmdet.models import RetinaNet
from mmdet.structures.bbox import bbox_flip
from mmengine.config import Config, ConfigDict
from torch import nn

from mmtern import ternary_layers
from ..small_detectors import (build, images, loss_of, small_faster_rcnn,
                               small_retinanet, ternary_twin)


def three_valued(layer) -> bool:
    rows = layer.ternary_weight.flatten(1)
    scale = rows.abs().amax(1, keepdim=True)
    return bool(((rows == 0) | (rows.abs() == scale)).all())


def gradients(detector) -> dict:
    return {
        name: parameter.grad.clone()
        for name, parameter in detector.named_parameters()
        if parameter.grad is not None
    }


def test_a_config_that_imports_its_types(tmp_path):
    base, child = tmp_path / 'base.py', tmp_path / 'child.py'
    model = small_retinanet().to_dict()
    del model['type']
    base.write_text('from mmdet.models import RetinaNet\n'
                    f'model = dict(type=RetinaNet, **{model!r})\n')
    # As docs/options.md has it.
    child.write_text('from mmengine.config import read_base\n'
                     'with read_base():\n'
                     '    from .base import *\n'
                     'from mmtern.models import TernDetector\n'
                     'model.update(type=TernDetector, wrapped=model.type)\n')
    detector = build(Config.fromfile(child).model)
    assert type(detector) is RetinaNet and ternary_layers(detector)


@pytest.mark.parametrize('model', [small_retinanet, small_faster_rcnn])
def test_keys_types_and_initialization_are_mmdets(model):
    floating, ternary = build(model()), build(ternary_twin(model()))
    assert type(ternary) is type(floating)
    for detector in (floating, ternary):
        torch.manual_seed(0)
        detector.init_weights()
    expected, got = floating.state_dict(), ternary.state_dict()
    assert list(expected) == list(got)
    for key in expected:
        assert torch.equal(expected[key], got[key]), key


def test_wrapping_parts():
    model = small_retinanet()
    for part, wrapper in (('backbone', 'TernBackbone'), ('neck', 'TernNeck')):
        model[part].update(type=wrapper, wrapped=model[part].type)
    names = {n.split('.')[0] for n in ternary_layers(build(model))}
    assert names == {'backbone', 'neck'}


def test_each_leaves_its_report():
    model = small_retinanet()
    for part, wrapper in (('backbone', 'TernBackbone'), ('neck', 'TernNeck')):
        model[part].update(type=wrapper, wrapped=model[part].type)
    detector = build(model)
    for part in (detector.backbone, detector.neck):
        names = {record.name for record in part.conversion_report.ternary}
        assert names == set(ternary_layers(part))


def test_class_in_place_of_its_name():
    model = ternary_twin(small_retinanet())
    model.wrapped = RetinaNet
    assert ternary_layers(build(model))


def test_semi_supervised_teacher_follows_its_student():
    small = small_faster_rcnn()
    model = ternary_twin(
        ConfigDict(
            type='SoftTeacher',
            detector=small,
            data_preprocessor=dict(
                type='MultiBranchDataPreprocessor',
                data_preprocessor=small.data_preprocessor),
            semi_train_cfg=dict(
                freeze_teacher=True,
                sup_weight=1.0,
                unsup_weight=4.0,
                pseudo_label_initial_score_thr=0.5,
                rpn_pseudo_thr=0.9,
                cls_pseudo_thr=0.9,
                reg_pseudo_thr=0.02,
                jitter_times=2,
                jitter_scale=0.06,
                min_pseudo_bbox_wh=(1e-2, 1e-2)),
            semi_test_cfg=dict(predict_on='teacher')))
    detector = build(model).train()
    teacher = ternary_layers(detector.teacher)
    student = ternary_layers(detector.student)
    assert list(teacher) == list(student)

    def step():
        batch = images()
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(homography_matrix=torch.eye(3).numpy()))
        branches = ('sup', 'unsup_teacher', 'unsup_student')
        loss_of(detector, {
            key: dict.fromkeys(branches, batch[key])
            for key in batch
        }).backward()

    hook = MeanTeacherHook()
    hook.momentum_update(detector, 1.0)  # as before training
    step()
    torch.optim.SGD(detector.student.parameters(), lr=1.0).step()
    # Writes through .data, unseen by version counters.
    hook.momentum_update(detector, 0.5)
    for name, layer in teacher.items():
        # The default scale keeps the norm of each filter.
        expected = layer.weight.flatten(1).norm(dim=1)
        got = layer.ternary_weight.flatten(1).norm(dim=1)
        torch.testing.assert_close(
            got, expected, msg=lambda m, n=name: f'{n}: {m}')


def test_test_time_augmentation():
    model = ternary_twin(small_retinanet())
    detector = build(
        ConfigDict(
            type='DetTTAModel',
            tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
            module=model)).eval()
    nn.init.constant_(detector.module.bbox_head.retina_cls.bias, 0.0)
    batch = images(side=64)
    inputs = torch.stack(batch['inputs'])
    flipped = copy.deepcopy(batch['data_samples'])
    for sample in flipped:
        sample.set_metainfo(dict(flip=True, flip_direction='horizontal'))
    for sample in batch['data_samples'] + flipped:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    with torch.no_grad():
        merged = detector.test_step(
            dict(
                inputs=[list(inputs), list(inputs.flip(-1))],
                data_samples=[batch['data_samples'], flipped]))
        alone = detector.module.test_step(
            dict(
                inputs=list(inputs.flip(-1)),
                data_samples=copy.deepcopy(flipped)))
    assert all(map(three_valued, ternary_layers(detector).values()))
    for result, single in zip(merged, alone):
        boxes = result.pred_instances.bboxes
        back = bbox_flip(single.pred_instances.bboxes, (64, 64), 'horizontal')
        # Some of the merged boxes stem from the flipped image.
        assert (torch.cdist(boxes, back).amin(1) < 1e-3).any()


def test_pretrained_backbone(tmp_path):
    model = small_retinanet()
    weights = build(model.backbone).state_dict()
    path = str(tmp_path / 'backbone.pth')
    torch.save(weights, path)
    twin = ternary_twin(model)
    twin.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
    torch.manual_seed(1)
    detector = build(twin)
    detector.init_weights()
    for key, value in detector.backbone.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert all(map(three_valued, ternary_layers(detector.backbone).values()))


def test_frozen_stages_and_norm_eval():
    model = small_retinanet(frozen_stages=1, norm_eval=True)
    detector = build(ternary_twin(model)).train()
    before = copy.deepcopy(detector.backbone.bn1.state_dict())
    loss_of(detector, images()).backward()
    frozen = [
        name for name, layer in ternary_layers(detector).items()
        if layer.weight.grad is None
    ]
    assert frozen and all('layer1' in name for name in frozen)
    assert three_valued(detector.backbone.layer1[0].conv1)
    for key, value in detector.backbone.bn1.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_gradient_checkpointing_changes_no_gradient():
    results = []
    for with_cp in (False, True):
        detector = build(ternary_twin(
            small_retinanet(with_cp=with_cp))).train()
        loss_of(detector, images()).backward()
        results.append(gradients(detector))
    plain, checkpointed = results
    assert list(plain) == list(checkpointed)
    for name in plain:
        torch.testing.assert_close(
            plain[name], checkpointed[name], msg=lambda m: f'{name}: {m}')


def nested():
    model = ternary_twin(small_retinanet())
    model.backbone.update(type='TernBackbone', wrapped='ResNet')
    return model


def without(key):
    model = ternary_twin(small_retinanet())
    model.pop(key)
    return model


@pytest.mark.parametrize('model, message', [
    (nested, "ternary layers already.*'backbone.layer1.*wrap it once"),
    (lambda: ConfigDict(
        ternary_twin(small_retinanet()), wrapped='TernDetector'),
     "wrapped.*float model.*'TernDetector'.*ternary already"),
    (lambda: without('wrapped'), "wrapped must name.*wrapped='RetinaNet'"),
    (lambda: ConfigDict(
        type='TernNeck',
        wrapped='ChannelMapper',
        in_channels=[8],
        out_channels=8,
        num_outs=1,
        ternary=dict(exclude=['convs'])), 'no layer of ChannelMapper is left'),
    (lambda: ConfigDict(type='TernNeck', wrapped='DetDataPreprocessor'),
     'no layer of DetDataPreprocessor.*0 layers'),
    (lambda: ternary_twin(small_retinanet(), include=['bakbone']),
     "include.*'bakbone'.*matches no layer of RetinaNet"),
    (lambda: ternary_twin(small_retinanet(), floor=2), r'floor.*\[0, 1\].*2'),
    (lambda: ternary_twin(small_retinanet(), scale='l1'), "scale.*'l1'"),
    (lambda: ternary_twin(small_retinanet(), temperature=1),
     "'temperature'.*accepted"),
])
def test_wrong_use_gets_a_sentence(model, message):
    with pytest.raises(ValueError, match=message):
        build(model())
