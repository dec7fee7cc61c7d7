"""What suits a float detector and not a ternary one is named once, with what
to write instead."""
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.optim import build_optim_wrapper

from mmtern import TernaryScheduleHook, ternary_layers
from mmtern.engine.hooks.runner_checks import settings_to_mend
from ...small_detectors import (build, small_retinanet, soft_teacher,
                                ternary_twin)
from ...toy import ToyModel, toy_runner

GOOD = dict(frozen_stages=-1, norm_eval=False)
START = dict(load_from='float.pth')


def sentences(model,
              decay=0.0,
              cfg=START,
              hooks=(),
              trains=lambda name: True) -> list:
    detector = build(model)
    for name, parameter in detector.named_parameters():
        parameter.requires_grad_(trains(name) and parameter.requires_grad)
    runner = SimpleNamespace(
        model=detector,
        cfg=Config(cfg),
        hooks=list(hooks),
        optim_wrapper=build_optim_wrapper(
            detector,
            dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=decay))))
    return list(settings_to_mend(runner, ternary_layers(detector)))


def test_nothing_to_say_of_the_recipe():
    assert sentences(ternary_twin(small_retinanet(**GOOD))) == []


@pytest.mark.parametrize('backbone, settings, message', [
    (dict(frozen_stages=1), {}, 'backbone.layer1.0.conv1, '
     'backbone.layer1.0.conv2, ...) are frozen'),
    (dict(frozen_stages=1), {}, 'write backbone=dict(frozen_stages=-1)'),
    (dict(norm_eval=True), {}, 'backbone keeps the BatchNorm statistics'),
    (dict(norm_eval=True), {}, 'write backbone=dict(norm_eval=False)'),
    ({}, dict(decay=1e-4), 'weight decay of 0.0001'),
    ({}, dict(decay=1e-4), 'optimizer=dict(weight_decay=0.0)'),
    ({}, dict(trains=lambda name: '.bn' not in name),
     'BatchNorms beside ternary layers (backbone.layer1.0.bn1, '
     'backbone.layer1.0.bn2, ...) are frozen'),
    ({}, dict(trains=lambda name: '.bn' not in name),
     'write backbone=dict(norm_cfg=dict(requires_grad=True))'),
    ({}, dict(cfg=dict(work_dir='x')), "write load_from='...'"),
    ({}, dict(hooks=[EMAHook()]), 'EMAHook averages'),
])
def test_one_sentence_for_what_is_left_as_in_the_float_config(
        backbone, settings, message):
    model = ternary_twin(small_retinanet(**{**GOOD, **backbone}))
    found = sentences(model, **settings)
    assert len(found) == 1 and message in found[0]
    assert '\n' not in found[0] and not found[0].endswith('.')


def test_only_latent_weights_count():
    """Decay and frozen parts of what stays full precision are the float
    detector's own affair."""
    model = small_retinanet(frozen_stages=1, norm_eval=True)
    model.neck.update(type='TernNeck', wrapped='FPN')
    assert sentences(model) == []
    detector = build(model)
    latent = [x.weight for x in ternary_layers(detector).values()]
    ids = {id(weight) for weight in latent}
    others = [x for x in detector.parameters() if id(x) not in ids]
    optimizer = build_optim_wrapper(
        detector, dict(optimizer=dict(type='SGD', lr=0.1))).optimizer
    optimizer.param_groups.clear()
    optimizer.add_param_group(dict(params=latent, weight_decay=0.0))
    optimizer.add_param_group(dict(params=others, weight_decay=0.1))
    runner = SimpleNamespace(
        model=detector,
        cfg=Config(START),
        hooks=[],
        optim_wrapper=SimpleNamespace(optimizer=optimizer))
    assert not list(settings_to_mend(runner, ternary_layers(detector)))


def test_a_resumed_run_has_its_start():
    model = ternary_twin(small_retinanet(**GOOD))
    assert sentences(model, cfg=dict(resume=True)) == []


def test_a_teacher_is_meant_to_be_frozen():
    model = soft_teacher(**GOOD)
    assert sentences(model) == []
    model.detector.backbone.frozen_stages = 1
    frozen, = sentences(model)
    assert 'student.backbone.layer1' in frozen and 'teacher' not in frozen


def test_the_schedule_logs_them(tmp_path):
    runner = toy_runner(
        tmp_path, [TernaryScheduleHook()],
        ToyModel(),
        epochs=1,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, weight_decay=0.5)))
    lines = []
    runner.logger.log = lambda level, text: lines.append(text)
    runner.train()
    assert sum('weight decay of 0.5' in line for line in lines) == 1
