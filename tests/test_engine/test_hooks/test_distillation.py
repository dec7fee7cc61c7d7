from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from mmtern import TernaryDistillationHook, TernaryScheduleHook
from mmtern.engine.hooks.distillation import correlation_distance
from ...small_detectors import (build, images, small_faster_rcnn,
                                small_retinanet, ternary_twin)
from ...toy import ToyModel, toy_runner
from .test_regularizer import Losses


class ToyDetector(ToyModel):
    with_neck = True

    def extract_feat(self, inputs):
        return (self.neck(self.backbone[:3](inputs.float())), )


@pytest.fixture
def teacher(tmp_path):
    """Checkpoint of a float model, whose type configs may name."""
    MODELS.register_module(module=ToyDetector, force=True)
    torch.manual_seed(0)
    path = tmp_path / 'float.pth'
    torch.save(dict(state_dict=ToyDetector().state_dict()), path)
    return str(path)


def run(tmp_path, teacher, epochs=3, **kwargs):
    watch = Losses()
    torch.manual_seed(0)
    runner = toy_runner(
        tmp_path / 'run', [
            TernaryScheduleHook(),
            TernaryDistillationHook(teacher, **kwargs), watch
        ],
        ToyDetector(),
        epochs=epochs,
        cfg=dict(model=dict(type='ToyDetector')))
    runner.train()
    return runner, watch.seen


def test_distance_is_one_minus_numpys_correlation():
    torch.manual_seed(0)
    one, other = torch.randn(2, 3, 5, 4, 6).unbind()
    rows = [x.transpose(0, 1).flatten(1).numpy() for x in (one, other)]
    expected = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(*rows)])
    assert float(correlation_distance(one, other)) == pytest.approx(
        expected, abs=1e-6)


def test_distance_is_blind_to_magnitude_and_finite_on_dead_channels():
    features = torch.randn(2, 3, 4, 4, requires_grad=True)
    same = correlation_distance(features, 3 * features.detach() + 1)
    assert float(same) == pytest.approx(0, abs=1e-6)
    opposite = correlation_distance(features, -features)
    assert float(opposite) == pytest.approx(2, abs=1e-6)
    dead = correlation_distance(0 * features, features)
    dead.backward()
    assert float(dead) == pytest.approx(1) and features.grad.isfinite().all()


def test_added_to_the_loss_and_leaves_no_trace(tmp_path, teacher):
    runner, seen = run(tmp_path, teacher, loss_weight=2.0)
    for step in seen:
        assert 0 < step['loss_distillation'] < 4
        assert step['loss'] == pytest.approx(step['loss_toy'] +
                                             step['loss_distillation'])
    model = runner.model
    assert not model._forward_hooks and not model.neck._forward_hooks
    assert set(model.state_dict()) == set(ToyDetector().state_dict())


def test_pulls_features_towards_the_teachers(tmp_path, teacher):
    weak = run(tmp_path, teacher, epochs=25, loss_weight=1e-6)[1]
    strong = run(tmp_path, teacher, epochs=25, loss_weight=10.0)[1]
    assert (strong[-1]['loss_distillation'] / 10
            < 0.8 * weak[-1]['loss_distillation'] / 1e-6)


@pytest.mark.parametrize('kwargs, words', [
    (dict(teacher=''), "teacher must be .* got ''"),
    (dict(teacher=None), 'teacher must be .* got None'),
    (dict(teacher='x.pth', loss_weight=0), 'loss_weight must be .* got 0'),
    (dict(teacher='x.pth', head_weight=-1), 'head_weight must be .* got -1'),
])
def test_wrong_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        TernaryDistillationHook(**kwargs)


def test_wrong_models(tmp_path, teacher):
    hook = TernaryDistillationHook(teacher)
    with pytest.raises(ValueError, match='ToyModel has none'):
        toy_runner(tmp_path, [hook]).train()
    with pytest.raises(ValueError, match='has no model'):
        toy_runner(tmp_path, [hook], ToyDetector()).train()
    hook = TernaryDistillationHook(teacher, head_weight=1.0)
    with pytest.raises(ValueError, match='ToyDetector has Linear'):
        toy_runner(
            tmp_path, [hook],
            ToyDetector(),
            cfg=dict(model=dict(type='ToyDetector'))).train()


@pytest.mark.parametrize('config, head', [
    (small_retinanet(), 'bbox_head'),
    (small_faster_rcnn(), 'rpn_head'),
])
def test_class_maps_of_the_dense_head(config, head, tmp_path):
    student = build(ternary_twin(config)).train()
    path = str(tmp_path / 'float.pth')
    torch.save(dict(state_dict=student.state_dict()), path)
    hook = TernaryDistillationHook(path, head_weight=2.0)
    hook.before_train(
        SimpleNamespace(
            model=student,
            hooks=[hook],
            cfg=ConfigDict(model=ternary_twin(config))))
    data = student.data_preprocessor(images(), True)
    losses = student(**data, mode='loss')

    teacher = build(config).eval()
    teacher.load_state_dict(torch.load(path)['state_dict'])
    distances = [
        correlation_distance(one, other) for one, other in zip(
            *(getattr(model, head)(model.extract_feat(data['inputs']))[0]
              for model in (student, teacher)))
    ]
    expected = 2 * sum(distances) / len(distances)
    assert expected > 0.01
    torch.testing.assert_close(losses['loss_distillation_head'], expected)
    hook.after_train(None)
    assert not getattr(student, head)._forward_hooks
