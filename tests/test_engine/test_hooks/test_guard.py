import math

import pytest
import torch
from mmengine.hooks import Hook
from torch.multiprocessing import spawn

from mmtern import (TernaryGuardHook, TernaryScheduleHook, TernConv2d,
                    ternary_layers)
from mmtern.engine.hooks.guard import non_finite_tensors
from ...ranks import gloo_rank
from ...toy import ToyModel, toy_runner


class Spoil(Hook):
    """Runs ``spoil(model)`` before or after one iteration's step."""
    priority = 'HIGHEST'

    def __init__(self, spoil, iteration=5):
        self.spoil, self.iteration = spoil, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            self.spoil(runner.model)


class SpoilAfter(Spoil):
    before_train_iter = Hook.before_train_iter

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        Spoil.before_train_iter(self, runner, batch_idx)


def spoil_gradient(model):
    weight = model.neck.weight
    handle = weight.register_hook(
        lambda grad: handle.remove() or grad * math.nan)


def spoil_weight(value):

    def spoil(model):
        with torch.no_grad():
            model.neck.weight[0, 0] = value

    return spoil


def spoil_statistics(model):
    model.backbone[1].running_var.fill_(math.nan)


@pytest.mark.parametrize('hook, name', [
    (Spoil(spoil_gradient), 'neck.weight'),
    (SpoilAfter(spoil_weight(math.nan)), 'neck.weight'),
    (SpoilAfter(spoil_weight(math.inf)), 'neck.weight'),
    (SpoilAfter(spoil_statistics), 'backbone.1.running_var'),
])
@pytest.mark.parametrize('interval', [1, 1000])
def test_run_stops_before_the_checkpoint_is_spoiled(tmp_path, hook, name,
                                                    interval):
    hooks = [TernaryScheduleHook(), TernaryGuardHook(interval), hook]
    runner = toy_runner(tmp_path, hooks)
    # By the next checkpoint NaN has gone round the network.
    message = f'in {name} at iteration 5' if interval == 1 else (
        f'{"var" if "var" in name else "weight"}.*at iteration 8')
    with pytest.raises(FloatingPointError, match=message):
        runner.train()
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    assert [p.name for p in tmp_path.glob('*.pth')] == ['epoch_1.pth']


def test_exploding_learning_rate_stops_the_run(tmp_path):
    runner = toy_runner(
        tmp_path, [TernaryScheduleHook(),
                   TernaryGuardHook(interval=1)],
        epochs=50,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e6)))
    with pytest.raises(FloatingPointError, match='lower the learning rate'):
        runner.train()


def test_many_names_are_counted(tmp_path):
    model = ToyModel()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    assert len(non_finite_tensors(model)) == 8
    runner = toy_runner(tmp_path, [TernaryGuardHook()], model)
    with pytest.raises(FloatingPointError, match='and 5 more at iteration 0'):
        runner.train()


@pytest.mark.parametrize('scale', ['norm', 'lsq'])
@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_bad_filter_is_not_taken_for_a_zero_one(scale, bad):
    conv = TernConv2d(4, 3, 3, ternary=dict(scale=scale))
    with torch.no_grad():
        conv.weight[1, 0, 0, 0] = bad
    for mode in (True, False):
        weight = conv.train(mode).ternary_weight
        assert not weight[1].isfinite().any()
        assert weight[[0, 2]].isfinite().all()


def test_dead_filter_stays_finite_and_can_come_back(tmp_path):

    def kill(model):
        with torch.no_grad():
            model.neck.weight[0] = 0

    hooks = [
        TernaryScheduleHook(),
        dict(type='TernaryRegularizerHook', loss_weight=0.1),
        TernaryGuardHook(interval=1),
        Spoil(kill, iteration=0)
    ]
    runner = toy_runner(tmp_path, hooks)
    runner.train()
    for layer in ternary_layers(runner.model).values():
        assert layer.ternary_weight.flatten(1).abs().amax(1).gt(0).all()


def _train_a_rank(rank, folder, checkpoint):
    """Statistics of rank 1 become NaN in iteration 4, and no others."""
    with gloo_rank(rank, folder / 'group'):
        hooks = [TernaryGuardHook(1000)]
        if rank == 1:
            hooks.append(SpoilAfter(spoil_statistics, iteration=4))
        (folder / str(rank)).mkdir()
        try:
            toy_runner(
                folder / str(rank),
                hooks,
                default_hooks=dict(checkpoint=checkpoint)).train()
        except FloatingPointError as error:
            (folder / f'{rank}.txt').write_text(str(error))


@pytest.mark.skipif(torch.cuda.is_available(), reason='tests gloo on the CPU')
@pytest.mark.parametrize('checkpoint, end', [
    (dict(by_epoch=True, interval=1), 8),
    (dict(by_epoch=False, interval=3), 5),
])
def test_all_ranks_end_where_one_finds_something(tmp_path, checkpoint, end):
    """Before the next checkpoint, though the guard looks rarely."""
    checkpoint = dict(checkpoint, type='CheckpointHook')
    spawn(_train_a_rank, (tmp_path, checkpoint), nprocs=2)
    ends = [(tmp_path / f'{rank}.txt').read_text() for rank in range(2)]
    assert 'in another rank' in ends[0]
    assert 'in backbone.1.running_var' in ends[1]
    assert all(f'at iteration {end}' in text for text in ends)


@pytest.mark.parametrize('interval', [0, -1, 0.5])
def test_wrong_interval(interval):
    with pytest.raises(ValueError, match=f'interval.*>= 1.*{interval}'):
        TernaryGuardHook(interval)
