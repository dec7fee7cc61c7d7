import pytest
import torch
from mmengine.hooks import Hook
from torch.multiprocessing import spawn
from torch.utils.data import DataLoader

from mmtern import TernaryBatchNormHook, TernaryScheduleHook
from ...ranks import gloo_rank
from ...toy import ToyData, ToyModel, toy_runner


def norm(runner):
    return runner.model.backbone[1]


def first_conv(runner):
    return runner.model.backbone[0]


class AtEpochsEnd(Hook):
    """What a checkpoint of each epoch would hold, and the statistics that
    its ternary weights have on the last batches."""
    priority = 'VERY_LOW'

    def __init__(self, num_batches, images=None):
        self.num_batches = num_batches
        self.images = ToyData().images if images is None else images
        self.stored, self.expected = [], []

    def after_train_epoch(self, runner):
        conv = first_conv(runner)
        weight = conv.quantizer(conv.weight.detach(), False)
        images = self.images.split(2)[-self.num_batches:]
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


def _train_a_rank(rank, folder):
    with gloo_rank(rank, folder / 'group'):
        torch.manual_seed(0)
        model = ToyModel()
        # Each rank has images of its own, as by a distributed sampler.
        images = ToyData().images[4 * rank:4 * rank + 4]
        watch = AtEpochsEnd(2, images)
        (folder / str(rank)).mkdir()
        toy_runner(
            folder / str(rank), [TernaryBatchNormHook(2), watch],
            model,
            epochs=1,
            train_dataloader=DataLoader([
                dict(inputs=image, data_samples=torch.zeros(2))
                for image in images
            ],
                                        batch_size=2)).train()
        torch.save((watch.stored, watch.expected), folder / f'{rank}.pt')


@pytest.mark.skipif(torch.cuda.is_available(), reason='tests gloo on the CPU')
def test_ranks_share_the_mean_of_their_statistics(tmp_path):
    spawn(_train_a_rank, (tmp_path, ), nprocs=2)
    (one, own), (other, others) = (
        torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    for kind in range(2):
        assert not torch.allclose(own[0][kind], others[0][kind])
        torch.testing.assert_close(one[0][kind],
                                   (own[0][kind] + others[0][kind]) / 2)


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
