import pytest
import torch
from mmengine.hooks import Hook

from mmtern import TernaryBatchNormHook, TernaryScheduleHook
from ...toy import ToyData, ToyModel, toy_runner


def norm(runner):
    return runner.model.backbone[1]


def first_conv(runner):
    return runner.model.backbone[0]


class AtEpochsEnd(Hook):
    """What a checkpoint of each epoch would hold, and the statistics that
    its ternary weights have on the last batches."""
    priority = 'VERY_LOW'

    def __init__(self, num_batches):
        self.num_batches = num_batches
        self.stored, self.expected = [], []

    def after_train_epoch(self, runner):
        conv = first_conv(runner)
        weight = conv.quantizer(conv.weight.detach(), False)
        images = ToyData().images.reshape(4, 2, 4, 6, 6)[-self.num_batches:]
        outputs = [
            torch.nn.functional.conv2d(x, weight, conv.bias, padding=1)
            for x in images
        ]
        self.stored.append((norm(runner).running_mean.clone(),
                            norm(runner).running_var.clone()))
        self.expected.append(
            (torch.stack([x.mean((0, 2, 3)) for x in outputs]).mean(0),
             torch.stack([x.var((0, 2, 3)) for x in outputs]).mean(0)))


@pytest.mark.parametrize('num_batches', [1, 3, 4, 20])
def test_statistics_are_those_of_the_ternary_weights_on_the_last_batches(
        tmp_path, num_batches):
    # Epochs of 4 batches; the first two approach, the third is ternary.
    watch = AtEpochsEnd(num_batches)
    runner = toy_runner(
        tmp_path,
        [TernaryScheduleHook(2),
         TernaryBatchNormHook(num_batches), watch])
    runner.train()
    assert len(watch.stored) == 3
    torch.testing.assert_close(watch.stored, watch.expected)
    assert norm(runner).momentum == 0.1
    assert all(module.training for module in runner.model.modules())


def test_training_does_not_see_it(tmp_path):

    def weights(name, hooks):
        torch.manual_seed(0)
        runner = toy_runner(
            tmp_path / name, [TernaryScheduleHook(1), *hooks],
            Dropping(),
            randomness=dict(seed=0))
        runner.train()
        return dict(runner.model.named_parameters()), norm(runner)

    plain, plain_norm = weights('plain', [])
    hooked, hooked_norm = weights('hooked', [TernaryBatchNormHook(3)])
    torch.testing.assert_close(hooked, plain, rtol=0, atol=0)
    assert not torch.equal(hooked_norm.running_mean, plain_norm.running_mean)


class Dropping(ToyModel):
    """Draws random numbers, as a detector's samplers do."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs = torch.nn.functional.dropout(
            inputs.float(), training=self.training)
        return super().forward(inputs, data_samples, mode)


def test_resumed_run_has_the_same_statistics(tmp_path):

    def hooks():
        return [TernaryScheduleHook(2), TernaryBatchNormHook(3)]

    whole = toy_runner(tmp_path / 'whole', hooks())
    whole.train()
    half = toy_runner(tmp_path / 'half', [*hooks(), StopAfter(1)])
    with pytest.raises(KeyboardInterrupt):
        half.train()
    rest = toy_runner(
        tmp_path / 'half',
        hooks(),
        resume=True,
        load_from=str(tmp_path / 'half' / 'epoch_1.pth'))
    rest.train()
    torch.testing.assert_close(
        rest.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


class StopAfter(Hook):
    priority = 'LOWEST'

    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_run_of_iterations(tmp_path):
    seen = []

    class Watch(Hook):
        priority = 'VERY_LOW'

        def after_train_iter(self, runner, *args, **kwargs):
            if int(norm(runner).num_batches_tracked) == 2:
                seen.append(runner.iter + 1)

    toy_runner(
        tmp_path, [TernaryBatchNormHook(2), Watch()],
        train_cfg=dict(by_epoch=False, max_iters=11, val_interval=4),
        default_hooks=dict(checkpoint=None, logger=None)).train()
    # The second step of all has seen two batches as well.
    assert seen == [2, 4, 8, 11]


def test_layers_in_eval_stay_as_they_are(tmp_path):

    class Frozen(ToyModel):

        def train(self, mode=True):
            super().train(mode)
            self.backbone[1].eval()
            return self

    runner = toy_runner(tmp_path, [TernaryBatchNormHook()], Frozen())
    runner.train()
    assert not norm(runner).running_mean.any()
    assert norm(runner).num_batches_tracked == 0


@pytest.mark.parametrize('num_batches', [0, -1, 2.5, True, '5'])
def test_wrong_counts(num_batches):
    with pytest.raises(ValueError, match='num_batches .* whole number >= 1'):
        TernaryBatchNormHook(num_batches)
