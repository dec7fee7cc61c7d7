"""Optimizer steps re-scaled, ``rescale='update'``."""
import copy

import pytest
import torch
from mmengine.hooks import Hook

from mmtern import TernaryScheduleHook, TernarySettings
from mmtern.layers.rescaling import LEAST_GAIN
from mmtern.ops import rescale_factor, rows_of
from ..toy import ToyModel, convert_toy, toy_runner

SGD = dict(optimizer=dict(type='SGD', lr=0.5))
CONSTANT = (4.0, 4.0)


def toy(**settings):
    torch.manual_seed(0)
    model = ToyModel(ternary=False)
    convert_toy(model, TernarySettings(**settings))
    return model


def train(work_dir, model, hooks=(), schedule=None, **kwargs):
    schedule = schedule or dict(temperature=CONSTANT)
    runner = toy_runner(work_dir, [TernaryScheduleHook(**schedule), *hooks],
                        model, **kwargs)
    runner.train()
    return runner


@pytest.mark.parametrize('accumulated', [1, 2])
@pytest.mark.parametrize('settings', [{}, dict(floor=0.0, normalize=False)])
def test_under_plain_sgd_it_equals_a_rescaled_gradient(tmp_path, settings,
                                                       accumulated):
    optim_wrapper = dict(SGD, accumulative_counts=accumulated)
    # Gradients that accumulate see each iteration's own temperature.
    temperature = (1.0, 5.0) if accumulated == 1 else CONSTANT
    trained = [
        train(
            tmp_path / rescale,
            toy(rescale=rescale, **settings),
            optim_wrapper=optim_wrapper,
            schedule=dict(begin=1, temperature=temperature)).model
        for rescale in ('update', 'gradient')
    ]
    start = toy()
    for name, weight in trained[0].named_parameters():
        torch.testing.assert_close(weight, trained[1].get_parameter(name))
        assert not torch.equal(weight, start.get_parameter(name))


class Steps(Hook):
    """The neck's latent weight before and after the first step."""
    priority = 'LOWEST'

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 0:
            self.before = runner.model.neck.weight.detach().clone()

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 0:
            self.after = runner.model.neck.weight.detach().clone()


def first_step(work_dir, model):
    steps = Steps()
    train(work_dir, model, [steps])
    return steps.before, steps.after - steps.before


def test_adamw_keeps_the_factor_of_an_update_only(tmp_path):
    before, plain = first_step(tmp_path / 'plain', toy(floor=1.0))
    _, update = first_step(tmp_path / 'update', toy(rescale='update'))
    _, gradient = first_step(tmp_path / 'gradient', toy(rescale='gradient'))
    model = toy()
    model.neck.weight.data.copy_(before)
    threshold = model.neck.ternarizer.project(model.neck.weight).threshold
    factor = rescale_factor(rows_of(before), threshold, 4.0)
    torch.testing.assert_close(
        update, (factor * rows_of(plain)).view_as(plain), atol=1e-6, rtol=1e-3)
    assert factor.max() > 2 * factor.min()
    # AdamW's first step is the sign of the gradient, whatever its size.
    torch.testing.assert_close(gradient, plain, atol=1e-5, rtol=1e-2)


@pytest.mark.parametrize('settings', [
    dict(),
    dict(scale='learned'),
    dict(floor=1.0, rescale='update'),
])
def test_relative_steps_are_in_proportion_to_the_filter(tmp_path, settings):
    start = toy(reference_rms=0.1, **settings)
    with torch.no_grad():
        start.neck.weight[0] *= 20
        start.neck.weight[1] = 0
    schedule = dict(temperature=(0.0, 0.0))
    steps = Steps()
    train(tmp_path / 'relative', copy.deepcopy(start), [steps], schedule)
    for layer in (start.backbone[0], start.neck):
        layer.ternarizer.settings = TernarySettings(**settings)
    plain = Steps()
    train(tmp_path / 'plain', start, [plain], schedule)
    gain = rows_of(plain.before).square().mean(1).sqrt() / 0.1
    assert gain[0] > 10 and gain[1] == 0
    gain[1] = LEAST_GAIN
    expected = gain[:, None, None, None] * (plain.after - plain.before)
    torch.testing.assert_close(
        steps.after - steps.before, expected, rtol=1e-4, atol=1e-6)
    assert expected[1].any()


def test_approach_phase_and_zero_temperature_leave_the_step(tmp_path):
    for name, schedule in dict(
            approach=dict(begin=1, temperature=CONSTANT),
            plain=dict(temperature=(0.0, 0.0))).items():
        taken = []
        for rescale in ('update', 'gradient'):
            steps = Steps()
            train(
                tmp_path / f'{name}_{rescale}',
                toy(rescale=rescale), [steps],
                schedule=schedule)
            taken.append(steps.after)
        assert torch.equal(*taken)


def test_the_optimizer_is_left_as_it_was(tmp_path):
    runner = train(tmp_path, toy(rescale='update'))
    optimizer = runner.optim_wrapper.optimizer
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_resumed_run_is_the_same(tmp_path):
    whole = train(tmp_path / 'whole', toy(rescale='update'))
    rest = train(
        tmp_path / 'rest',
        toy(rescale='update'),
        resume=True,
        load_from=str(tmp_path / 'whole' / 'epoch_2.pth'))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name


@pytest.mark.parametrize('layout',
                         [torch.contiguous_format, torch.channels_last])
def test_bfloat16_and_channels_last_weights(tmp_path, layout):
    trained = []
    for rescale in ('update', 'gradient'):
        model = toy(rescale=rescale).to(memory_format=layout)
        neck = model.neck
        neck.weight.data = neck.weight.data.bfloat16()
        weight, ternarizer = neck.weight, neck.ternarizer
        ternarizer.temperature = 4.0
        torch.manual_seed(1)
        ternarizer(weight, training=True).backward(torch.randn_like(weight))
        finish = ternarizer.update_rescaler(weight)
        with torch.no_grad():
            weight.sub_(weight.grad, alpha=0.1)
        if finish:
            finish()
        trained.append(weight.detach().float())
    torch.testing.assert_close(*trained, atol=2e-3, rtol=2e-2)
