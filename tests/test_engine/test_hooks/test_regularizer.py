import copy

import pytest
import torch
from mmengine.hooks import Hook

from mmtern import (TernaryRegularizerHook, TernaryScheduleHook,
                    TernaryStatisticsHook, freeze, ternary_layers)
from ...toy import ToyModel, toy_runner


class Losses(Hook):

    def __init__(self):
        self.seen = []

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        self.seen.append({key: v.item() for key, v in outputs.items()})


def losses(tmp_path, **kwargs):
    watch = Losses()
    hooks = [TernaryScheduleHook(begin=2), watch]
    if kwargs:
        hooks.append(TernaryRegularizerHook(**kwargs))
    runner = toy_runner(tmp_path, hooks)
    runner.train()
    return runner, watch.seen


def test_zero_weight_is_the_unregularized_loss_exactly(tmp_path):
    _, plain = losses(tmp_path / 'plain')
    _, zero = losses(tmp_path / 'zero', loss_weight=0.0)
    assert [x['loss'] for x in plain] == [x['loss'] for x in zero]


def test_added_to_the_loss_and_falling(tmp_path):
    runner, seen = losses(tmp_path, loss_weight=0.5, shape='constant', end=2)
    for step in seen[:8]:
        assert step['loss'] == pytest.approx(step['loss_toy'] +
                                             step['loss_ternary'])
    assert all('loss_ternary' not in step for step in seen[8:])
    logged = runner.message_hub.get_scalar('train/loss_ternary').data[0]
    assert len(logged) == 12 and not logged[8:].any()
    assert seen[7]['loss_ternary'] < 0.8 * seen[0]['loss_ternary']
    assert not runner.model._forward_hooks  # taken off after training
    assert not runner.model._forward_pre_hooks


def test_first_value_is_lambda_times_the_sum_of_distances(tmp_path):
    torch.manual_seed(0)
    model = ToyModel()
    expected = 0.5 * sum(
        float((1 - layer.quantizer.project(layer.weight).cosine()).sum())
        for layer in ternary_layers(model).values())
    watch = Losses()
    hook = TernaryRegularizerHook(loss_weight=0.5, shape='constant')
    toy_runner(tmp_path, [hook, watch], model).train()
    assert watch.seen[0]['loss_ternary'] == pytest.approx(expected, rel=1e-4)


def last_nodes(node):
    """Nodes of a graph that give a parameter its gradient."""
    for child, _ in node.next_functions:
        if hasattr(child, 'variable'):
            yield node
        elif child is not None:
            yield from last_nodes(child)


def test_gradient_comes_after_the_detectors(tmp_path):
    """Else a gradient of each weight waits beside all activations."""
    order = []

    class Watch(Hook):

        def before_train(self, runner):
            runner.model.register_forward_hook(self.watch)

        def watch(self, model, args, losses):
            for node in last_nodes(losses['loss_ternary'].grad_fn):
                node.register_prehook(lambda *_: order.append('pull'))

    model = ToyModel()
    for layer in ternary_layers(model).values():
        layer.register_full_backward_hook(lambda *_: order.append('layer'))
    hook = TernaryRegularizerHook(loss_weight=0.5, shape='constant')
    toy_runner(tmp_path, [hook, Watch()], model, epochs=1).train()
    assert order == 4 * (2 * ['layer'] + 2 * ['pull'])


def test_linear_growth(tmp_path):
    hook = TernaryRegularizerHook(
        loss_weight=1.0, begin=4, end=8, by_epoch=False)
    runner = toy_runner(tmp_path, [])

    class At:
        train_dataloader = runner.train_dataloader
        max_iters = 12
        iter = 0

    strengths = []
    for At.iter in range(12):
        strengths.append(hook.strength(At))
    assert strengths == [0] * 4 + [0.25, 0.5, 0.75, 1.0] + [0] * 4


@pytest.mark.parametrize('kwargs, message', [
    (dict(loss_weight=-1), 'loss_weight.*>= 0.*-1'),
    (dict(begin=3, end=2), 'begin before end.*begin=3, end=2'),
    (dict(shape='cosine'), "shape.*'linear'.*'cosine'"),
])
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TernaryRegularizerHook(**kwargs)


@pytest.mark.parametrize('kwargs, message', [
    (dict(end=4), 'end=4 is iteration 16.*ends at 12'),
    (dict(begin=3), 'begin=3 is iteration 12.*ends at 12'),
])
def test_span_must_lie_in_the_run(tmp_path, kwargs, message):
    runner = toy_runner(tmp_path, [TernaryRegularizerHook(**kwargs)])
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_frozen_layers_cannot_be_turned(tmp_path):
    model = ToyModel()
    for layer in ternary_layers(model).values():
        layer.weight.requires_grad = False
    with pytest.raises(ValueError, match='all 2 of them are frozen'):
        toy_runner(tmp_path, [TernaryRegularizerHook()], model).train()


def test_a_model_can_be_copied_while_it_trains(tmp_path):

    class Copy(Hook):

        def after_train_iter(self, runner, *args, **kwargs):
            freeze(runner.model)
            copy.deepcopy(runner.model)

    toy_runner(
        tmp_path, [TernaryRegularizerHook(),
                   TernaryStatisticsHook(1),
                   Copy()],
        epochs=1).train()


def test_an_interrupted_runner_trains_on(tmp_path):
    """As in a notebook, where the same runner is told to train again."""

    class Interrupt(Hook):
        begun = 0

        def after_train_iter(self, runner, *args, **kwargs):
            self.begun += 1
            if self.begun == 2:
                raise KeyboardInterrupt

    watch = Losses()
    runner = toy_runner(
        tmp_path,
        [TernaryRegularizerHook(loss_weight=0.5), watch,
         Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    runner.train()
    # The interrupted epoch began again, so the regularizer's end, counted in
    # iterations, comes two steps before the run's.
    assert len(watch.seen) == 14
    assert all('loss_ternary' in step for step in watch.seen[:12])
    assert not runner.model._forward_hooks
    assert not runner.model._forward_pre_hooks
