import copy
import json
import math

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch.utils.data import DataLoader

from mmtern import (TernaryRegularizerHook, TernaryScheduleHook,
                    TernarySettings, TernaryStatisticsHook)
from ...toy import ToyData, ToyModel, convert_toy, toy_runner


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


def test_zeros_and_flips_are_the_codes(tmp_path):
    codes = []

    class Watch(Hook):
        priority = 'HIGHEST'

        def before_train(self, runner):
            self.after_train_iter(runner)

        def after_train_iter(self, runner, *args, **kwargs):
            codes.append(copy.deepcopy(runner.model.neck).codes.clone())

    toy_runner(
        tmp_path,
        [TernaryScheduleHook(begin=0),
         TernaryStatisticsHook(1),
         Watch()]).train()
    scalars = scalars_of(tmp_path)
    assert scalars['neck_zeros'] == pytest.approx(
        [float((x == 0).float().mean()) for x in codes[1:]])
    assert scalars['neck_flips'] == pytest.approx(
        [float((x != y).float().mean()) for x, y in zip(codes, codes[1:])])


def test_an_average_that_is_saved_as_best_counts_no_flips(tmp_path):

    class Better(BaseMetric):
        seen = 0

        def process(self, *_):
            self.results.append(1)

        def compute_metrics(self, results):
            self.seen += 1
            return dict(acc=self.seen)

    def flips(name, **checkpoint):
        toy_runner(
            tmp_path / name, [
                TernaryScheduleHook(begin=0),
                TernaryStatisticsHook(1),
                dict(type='EMAHook', momentum=0.02)
            ],
            val_dataloader=DataLoader(ToyData(), batch_size=4),
            val_cfg=dict(),
            val_evaluator=[Better()],
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', **checkpoint))).train()
        return scalars_of(tmp_path / name)['backbone_flips']

    assert flips('best', save_best='acc', rule='greater') == flips('last')


class ScaledOptimWrapper(OptimWrapper):
    """As AmpOptimWrapper steps in float16, on a CPU."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.scaler = torch.amp.GradScaler('cpu', init_scale=2.0**16)

    def update_params(self, loss, **kwargs):
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


@pytest.mark.parametrize('fused', [False, True])
def test_a_gradient_is_told_without_the_scale_of_its_loss(tmp_path, fused):

    def gradients(name, wrapper, **options):
        torch.manual_seed(0)
        model = ToyModel()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, **options)
        toy_runner(
            tmp_path / name,
            [TernaryScheduleHook(begin=0),
             TernaryStatisticsHook(1)],
            model,
            optim_wrapper=wrapper(optimizer)).train()
        return scalars_of(tmp_path / name)['neck_gradient']

    scaled = gradients('scaled', ScaledOptimWrapper, fused=fused)
    assert scaled == pytest.approx(gradients('plain', OptimWrapper), rel=1e-4)
