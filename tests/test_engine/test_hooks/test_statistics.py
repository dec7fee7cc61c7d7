import json
import math

import pytest
import torch
from mmengine.hooks import Hook

from mmtern import (TernaryRegularizerHook, TernaryScheduleHook,
                    TernarySettings, TernaryStatisticsHook)
from ...toy import ToyModel, convert_toy, toy_runner


def test_scalars_are_recorded_and_stay_out_of_the_log_lines(tmp_path):
    runner = toy_runner(tmp_path, [
        TernaryScheduleHook(begin=1),
        TernaryRegularizerHook(loss_weight=4e-5, end=1),
        TernaryStatisticsHook(interval=2)
    ])
    runner.train()
    rows = recorded(tmp_path)
    assert [row['step'] for row in rows] == [2, 4, 6, 8, 10, 12]
    scalars = scalars_of(tmp_path)
    assert set(scalars) == {
        f'{part}_{what}'
        for part in ('backbone', 'neck')
        for what in ('cosine', 'zeros', 'flips', 'distance', 'gradient')
    } | {'temperature', 'phase', 'lambda'}
    assert scalars['lambda'] == pytest.approx([2e-5, 4e-5, 0, 0, 0, 0])
    assert not any('ternary/' in key for key in runner.message_hub.log_scalars)
    assert scalars['phase'] == [0.25, 0.75, 1, 1, 1, 1]
    assert 0 < max(scalars['neck_flips']) < 1
    assert all(0.7 < x <= 1 for x in scalars['backbone_cosine'])


def scalars_of(tmp_path) -> dict:
    """Each scalar's values, in the order in which they were measured."""
    rows = recorded(tmp_path)
    return {
        key.split('ternary/')[1]: [row[key] for row in rows]
        for key in rows[0] if 'ternary/' in key
    }


def test_staged_parts_have_their_own_phase_and_temperature(tmp_path):
    runner = toy_runner(tmp_path, [
        TernaryScheduleHook(
            begin=dict(backbone=0, neck=1), temperature=(0.0, 7.0)),
        TernaryStatisticsHook(interval=1)
    ])
    runner.train()
    scalars = scalars_of(tmp_path)
    assert scalars['backbone_phase'] == [1] * 12
    approach = [0.0, 0.25, 0.5, 0.75] + [1.0] * 8
    assert scalars['neck_phase'] == approach
    assert scalars['phase'] == [(1 + x) / 2 for x in approach]
    backbone = [7 * i / 11 for i in range(12)]
    neck = [0.0] * 4 + [float(i) for i in range(8)]
    assert scalars['backbone_temperature'] == pytest.approx(backbone)
    assert scalars['neck_temperature'] == pytest.approx(neck)
    both = [(a + b) / 2 for a, b in zip(backbone, neck)]
    assert scalars['temperature'] == pytest.approx(both)


def test_a_filter_that_is_no_number_is_no_perfect_one(tmp_path):
    model = ToyModel()
    with torch.no_grad():
        model.neck.weight[0, 0] = math.nan
    runner = toy_runner(
        tmp_path, [TernaryScheduleHook(),
                   TernaryStatisticsHook(interval=1)],
        model,
        epochs=1)
    runner.train()
    assert all(map(math.isnan, scalars_of(tmp_path)['neck_cosine']))


@pytest.mark.parametrize('interval', [0, 1.5])
def test_wrong_interval(interval):
    with pytest.raises(ValueError, match=f'interval.*{interval}'):
        TernaryStatisticsHook(interval)


def test_distance_and_gradient_by_another_way(tmp_path):
    model = ToyModel(ternary=False)
    convert_toy(model, TernarySettings(threshold='mean'))
    runner = toy_runner(
        tmp_path, [TernaryScheduleHook(),
                   TernaryStatisticsHook(interval=1)],
        model,
        epochs=1,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.5),
            clip_grad=dict(max_norm=0.01),
            accumulative_counts=2))
    weight = model.neck.weight
    steps, distances, last = [], [], weight.detach().clone()

    def after_step(*_):
        nonlocal last
        steps.append(float((weight.detach() - last).norm()) / 0.5)
        last = weight.detach().clone()
        size = last.flatten(1).abs()
        threshold = 0.7 * size.mean(1, keepdim=True)
        distances.append(float((size / threshold - 1).abs().mean()))

    # The wrapper is built when training starts.
    runner.register_hook(_Watch(after_step), priority='VERY_HIGH')
    runner.train()

    def logged(what):
        rows = [row.get(f'ternary/neck_{what}') for row in recorded(tmp_path)]
        return [row for row in rows if row is not None]

    # Four iterations, two steps; between them the weights rest.
    assert len(steps) == 2 and min(steps) > 0
    assert logged('gradient') == pytest.approx(steps, rel=1e-4)
    assert logged('distance')[1::2] == pytest.approx(distances, rel=1e-5)
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def recorded(work_dir):
    """The rows of statistics that a run left in its work directory."""
    (path, ) = work_dir.glob('*/vis_data/scalars.json')
    rows = map(json.loads, path.read_text().splitlines())
    return [row for row in rows if 'ternary/phase' in row]


class _Watch(Hook):
    """Calls a function after each of the optimizer's steps."""

    def __init__(self, function):
        self.function = function

    def before_train(self, runner):
        runner.optim_wrapper.optimizer.register_step_post_hook(self.function)
