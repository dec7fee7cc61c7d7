import pytest
import torch
from mmengine.hooks import Hook

from mmtern import TernaryBatchNormHook
from ..toy import ToyModel, toy_runner


class Inputs(Hook):
    """Mean of what BatchNorm saw in each step."""

    def __init__(self):
        self.means = []

    def before_train(self, runner):

        def keep(layer, args):
            if layer.training:
                self.means.append(args[0].detach().mean((0, 2, 3)))

        norm(runner).register_forward_pre_hook(keep)


def norm(runner):
    return runner.model.backbone[1]


def train(work_dir, hooks, model=None, **kwargs):
    watch = Inputs()
    runner = toy_runner(work_dir, [*hooks, watch], model, **kwargs)
    runner.train()
    return runner, watch.means


def test_statistics_are_the_plain_average_of_the_last_steps(tmp_path):
    runner, means = train(tmp_path, [TernaryBatchNormHook(5)])
    torch.testing.assert_close(
        norm(runner).running_mean,
        torch.stack(means[-5:]).mean(0))
    assert norm(runner).momentum == 0.1
    plain, _ = train(tmp_path / 'plain', [])
    assert not torch.equal(norm(plain).running_mean, norm(runner).running_mean)
    assert torch.equal(plain.model.neck.weight, runner.model.neck.weight)


@pytest.mark.parametrize('done', [1, 2])
def test_resumed_run_has_the_same_statistics(tmp_path, done):
    # 12 steps of which the last 6 count: resumed before and within them.
    whole, _ = train(tmp_path / 'whole', [TernaryBatchNormHook(6)])
    half = toy_runner(tmp_path / 'half', [TernaryBatchNormHook(6), Stop(done)])
    with pytest.raises(KeyboardInterrupt):
        half.train()
    rest, _ = train(
        tmp_path / 'half', [TernaryBatchNormHook(6)],
        resume=True,
        load_from=str(tmp_path / 'half' / f'epoch_{done}.pth'))
    assert torch.equal(norm(rest).running_mean, norm(whole).running_mean)
    assert torch.equal(norm(rest).running_var, norm(whole).running_var)


class Stop(Hook):
    priority = 'LOWEST'

    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


def test_layers_in_eval_stay_as_they_are(tmp_path):

    class Frozen(ToyModel):

        def train(self, mode=True):
            super().train(mode)
            self.backbone[1].eval()
            return self

    runner, _ = train(tmp_path, [TernaryBatchNormHook(5)], Frozen())
    assert not norm(runner).running_mean.any()
    assert norm(runner).num_batches_tracked == 0


@pytest.mark.parametrize('iterations', [0, -1, 2.5, True, '5'])
def test_wrong_counts(iterations):
    with pytest.raises(ValueError, match='whole number >= 1'):
        TernaryBatchNormHook(iterations)


def test_more_steps_than_the_run_has(tmp_path):
    with pytest.raises(ValueError, match='iterations=13 .* run has 12'):
        train(tmp_path, [TernaryBatchNormHook(13)])
