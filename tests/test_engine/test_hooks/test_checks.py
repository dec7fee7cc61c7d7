"""Wrong use of any hook gets a sentence."""
import math

import pytest

from mmtern import (TernaryRegularizerHook, TernaryScheduleHook,
                    TernarySettings, TernaryStatisticsHook)
from ...toy import ToyModel, toy_runner


@pytest.mark.parametrize('build, kwargs, message', [
    (TernaryScheduleHook, dict(temperature=5), 'temperature.*two.*got 5'),
    (TernaryScheduleHook, dict(temperature=('a', 1)), "temperature.*'a'"),
    (TernaryScheduleHook, dict(temperature=(0, math.nan)), 'temperature.*nan'),
    (TernaryScheduleHook, dict(begin='2'), "begin.*whole number.*'2'"),
    (TernaryScheduleHook, dict(begin=True), 'begin.*whole number.*True'),
    (TernaryScheduleHook, dict(by_epoch='no'), "by_epoch.*False.*'no'"),
    (TernaryRegularizerHook, dict(by_epoch=None), 'by_epoch.*False.*None'),
    (TernaryRegularizerHook, dict(loss_weight='1e-3'),
     "loss_weight.*number.*'1e-3'"),
    (TernaryRegularizerHook, dict(loss_weight=math.inf),
     'loss_weight.*number.*inf'),
    (TernaryRegularizerHook, dict(begin=1.5), 'begin.*whole.*begin=1.5'),
    (TernaryRegularizerHook, dict(begin=2, end=2), 'before end.*end=2'),
    (TernaryRegularizerHook, dict(begin=.5, end=.2), 'before end.*end=0.2'),
    (TernaryStatisticsHook, dict(interval=0), 'interval.*>= 1.*0'),
    (TernarySettings, dict(floor='low'), "floor.*number.*'low'"),
    (TernarySettings, dict(floor=-0.1), r'floor.*\[0, 1\].*-0.1'),
    (TernarySettings, dict(min_sparsity=None), 'min_sparsity.*number.*None'),
    (TernarySettings, dict(normalize=2), 'normalize.*True or False.*2'),
    (TernarySettings, dict(scale=2), "scale.*'norm'.*2"),
])
def test_wrong_arguments(build, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


@pytest.mark.parametrize(
    'hook',
    [TernaryScheduleHook, TernaryRegularizerHook, TernaryStatisticsHook])
def test_a_hook_needs_a_ternary_model(tmp_path, hook):
    runner = toy_runner(tmp_path, [hook()], ToyModel(ternary=False))
    with pytest.raises(
            ValueError, match=f"{hook.__name__} needs.*type='TernDetector'"):
        runner.train()


@pytest.mark.parametrize('hook', [TernaryScheduleHook, TernaryRegularizerHook])
def test_phases_must_not_overlap(tmp_path, hook):
    runner = toy_runner(tmp_path, [hook(), hook(begin=1)])
    with pytest.raises(
            ValueError,
            match=f'default_hooks and custom_hooks.*{hook.__name__} once.*2.*'
            'overlap'):
        runner.train()
