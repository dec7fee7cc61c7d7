import random

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
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

    def __init__(self, num_batches, images=None, batch_size=2):
        self.num_batches = num_batches
        self.images = ToyData().images if images is None else images
        self.batch_size = batch_size
        self.stored, self.expected = [], []

    def after_train_epoch(self, runner):
        images = self.images.split(self.batch_size)[-self.num_batches:]
        self.stored.append(statistics(norm(runner)))
        self.expected.append(expected(first_conv(runner), images))


class Alternating(ToyModel):
    """Trained by several optimizers, as GANs are."""

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        loss, logged = self.parse_losses(self(**data, mode='loss'))
        for wrapper in optim_wrapper.values():
            wrapper.zero_grad()
        loss.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
        return logged


def statistics(norm):
    return norm.running_mean.clone(), norm.running_var.clone()


def expected(conv, batches):
    """Statistics of what the ternary conv puts out."""
    weight = conv.quantizer(conv.weight.detach(), False)
    outputs = [
        torch.nn.functional.conv2d(x, weight, conv.bias, padding=1)
        for x in batches
    ]
    return (torch.stack([x.mean((0, 2, 3)) for x in outputs]).mean(0),
            torch.stack([x.var((0, 2, 3)) for x in outputs]).mean(0))


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


def test_two_optimizers(tmp_path):
    model, watch = Alternating(), AtEpochsEnd(4)
    wrapper = OptimWrapperDict(
        **{
            name:
            OptimWrapper(
                torch.optim.SGD(getattr(model, name).parameters(), lr=0.1))
            for name in ('backbone', 'neck')
        })
    toy_runner(
        tmp_path, [TernaryScheduleHook(2),
                   TernaryBatchNormHook(4), watch],
        model,
        optim_wrapper=wrapper).train()
    torch.testing.assert_close(watch.stored, watch.expected)


def test_training_does_not_see_it(tmp_path):

    def trained(name, hooks):
        torch.manual_seed(0)
        runner = toy_runner(
            tmp_path / name, [TernaryScheduleHook(1), *hooks],
            Counting(),
            randomness=dict(seed=0))
        runner.train()
        return runner

    plain = trained('plain', [])
    hooked = trained('hooked', [TernaryBatchNormHook(3)])
    torch.testing.assert_close(
        dict(hooked.model.named_parameters()),
        dict(plain.model.named_parameters()),
        rtol=0,
        atol=0)
    for name in Counting.counts:
        assert getattr(hooked.model, name) == getattr(plain.model, name), name
    assert hooked.model.history is hooked.model.loss['history']
    assert not torch.equal(norm(hooked).running_mean, norm(plain).running_mean)


class Counting(ToyModel):
    """Draws random numbers and remembers what passed, as samplers and losses
    of detectors do, and computes with what it remembers."""
    counts = ('batches', 'history', 'loss', 'mean', 'drawn')

    def __init__(self):
        super().__init__()
        self.register_buffer('batches', torch.zeros(()))
        self.mean = torch.zeros(())
        self.history = []
        self.loss = dict(history=self.history)
        self.drawn = 0.0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.batches += 1
        self.mean.lerp_(inputs.float().mean(), 0.1)
        self.history.append(float(inputs.float().max()))
        self.drawn = random.random() + np.random.rand()
        inputs = torch.nn.functional.dropout(
            inputs.float(), training=self.training)
        inputs = inputs * self.drawn + self.mean + len(self.history)
        return super().forward(inputs, data_samples, mode)


@pytest.mark.parametrize('priority', ['NORMAL', 49])
@pytest.mark.parametrize('buffers', [False, True])
def test_averaged_weights_have_their_own_statistics(tmp_path, priority,
                                                    buffers):
    """What EMAHook has validated and saved."""
    validated = []

    class Peek(BaseMetric):

        def process(self, *_):
            self.results.append(1)

        def compute_metrics(self, results):
            validated.append(
                (statistics(norm(runner)),
                 expected(first_conv(runner),
                          ToyData().images.split(2))))
            return {}

    ema = dict(
        type='EMAHook',
        momentum=0.05,
        update_buffers=buffers,
        priority=priority)
    runner = toy_runner(
        tmp_path, [TernaryScheduleHook(1),
                   TernaryBatchNormHook(4), ema],
        val_dataloader=DataLoader(ToyData(), batch_size=4),
        val_cfg=dict(),
        val_evaluator=[Peek()])
    runner.train()
    trained = first_conv(runner).weight
    assert len(validated) == 3
    for own, wanted in validated:
        torch.testing.assert_close(own, wanted)
    saved = ToyModel()
    file = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    saved.load_state_dict(file['state_dict'])
    assert not torch.equal(saved.backbone[0].weight, trained)
    torch.testing.assert_close(
        statistics(saved.backbone[1]),
        expected(saved.backbone[0],
                 ToyData().images.split(2)))


def test_a_norm_that_no_batch_passes_stays_as_it_is(tmp_path):
    model = ToyModel()
    model.unused = torch.nn.BatchNorm2d(8)
    model.unused.running_mean.fill_(3.0)
    model.unused.running_var.fill_(9.0)
    runner = toy_runner(tmp_path, [TernaryBatchNormHook(2)], model)
    runner.train()
    assert (model.unused.running_mean == 3).all()
    assert (model.unused.running_var == 9).all()


def test_a_resumed_run_with_other_batches(tmp_path):

    def run(batch_size, **kwargs):
        watch = AtEpochsEnd(1, batch_size=batch_size)
        toy_runner(
            tmp_path, [TernaryScheduleHook(0),
                       TernaryBatchNormHook(1), watch],
            train_dataloader=DataLoader(ToyData(), batch_size=batch_size),
            **kwargs).train()
        return watch

    run(2, epochs=1)
    watch = run(
        4, epochs=3, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    assert len(watch.stored) == 2
    torch.testing.assert_close(watch.stored, watch.expected)


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
