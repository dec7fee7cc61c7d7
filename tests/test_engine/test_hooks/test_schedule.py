import pytest
import torch
from mmengine.hooks import Hook

from mmtern import TernaryScheduleHook, TernarySettings, ternary_layers
from ...toy import ToyModel, convert_toy, toy_runner


class Watch(Hook):
    """Writes down what each iteration computed with."""
    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append({
            name: (layer.quantizer.beta, layer.quantizer.temperature)
            for name, layer in ternary_layers(runner.model).items()
        })


def run(tmp_path, hook, **kwargs):
    watch = Watch()
    runner = toy_runner(tmp_path, [hook, watch], **kwargs)
    runner.train()
    return runner, watch.seen


def test_two_phases_and_linear_temperature(tmp_path):
    hook = TernaryScheduleHook(
        begin=1, approach='float', temperature=(1.0, 8.0))
    _, seen = run(tmp_path, hook)
    assert [step['neck'][0] for step in seen] == [0] * 4 + [1] * 8
    temperatures = [step['neck'][1] for step in seen[4:]]
    assert temperatures == pytest.approx([1.0 + i for i in range(8)])


def test_staged_by_part(tmp_path):
    hook = TernaryScheduleHook(begin=dict(backbone=0, neck=5), by_epoch=False)
    _, seen = run(tmp_path, hook)
    assert [step['backbone.0'][0] for step in seen] == [1] * 12
    approach = [0, 0.2, 0.4, 0.6, 0.8]
    assert [step['neck'][0] for step in seen] == approach + [1] * 7


def test_by_default_half_of_the_run_approaches(tmp_path):
    _, seen = run(tmp_path, TernaryScheduleHook())
    betas = [step['neck'][0] for step in seen]
    assert betas == pytest.approx([i / 6 for i in range(6)] + [1] * 6)


def test_after_an_interrupted_approach_phase_eval_is_ternary(tmp_path):

    class Interrupt(Hook):

        def after_train_iter(self, runner, *args, **kwargs):
            if runner.iter == 2:
                raise KeyboardInterrupt

    runner = toy_runner(tmp_path,
                        [TernaryScheduleHook(approach='float'),
                         Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    runner.model.eval()
    for layer in ternary_layers(runner.model).values():
        for row in layer.ternary_weight.flatten(1):
            assert len(row.abs().unique()) <= 2


def test_a_run_that_stops_early_in_the_approach_phase_ends_ternary(tmp_path):

    class Stop(Hook):

        def after_train_epoch(self, runner):
            runner.train_loop.stop_training = True

    runner = toy_runner(tmp_path, [TernaryScheduleHook(begin=2), Stop()])
    runner.train()
    runner.model.train()
    for layer in ternary_layers(runner.model).values():
        assert layer.quantizer.beta == 1
        assert len(layer.ternary_weight[0].abs().unique()) <= 2


def test_trained_scales_begin_with_those_of_the_initialized_weights(tmp_path):
    torch.manual_seed(0)
    model = ToyModel(ternary=False)
    convert_toy(model, TernarySettings(threshold='max', scale='ttq'))
    for layer in ternary_layers(model).values():
        # As init_weights does, after the layer was built.
        torch.nn.init.normal_(layer.weight, std=7.0)
    before = {}

    class Look(Hook):

        def before_train_iter(self, runner, *args, **kwargs):
            for name, layer in ternary_layers(runner.model).items():
                before.setdefault(name, (layer.weight_scale.clone(),
                                         layer.projection.scale('lsq')))

    toy_runner(tmp_path, [TernaryScheduleHook(), Look()], model).train()
    assert len(before) == 2
    for scales, least_squares in before.values():
        torch.testing.assert_close(scales, least_squares.T.expand(2, -1))


def test_loaded_scales_stay(tmp_path):

    def model():
        toy = ToyModel(ternary=False)
        convert_toy(toy, TernarySettings(threshold='max', scale='ttq'))
        return toy

    source = model()
    with torch.no_grad():
        source.neck.weight_scale.fill_(0.25)
    torch.save(source.state_dict(), tmp_path / 'start.pth')
    scales = []

    class Look(Hook):

        def before_train_iter(self, runner, *args, **kwargs):
            scales.append(runner.model.neck.weight_scale.clone())

    toy_runner(
        tmp_path, [TernaryScheduleHook(), Look()],
        model(),
        load_from=str(tmp_path / 'start.pth')).train()
    assert (scales[0] == 0.25).all()
    assert not (scales[-1] == 0.25).any()


def test_trains_ternary_weights(tmp_path):
    runner, _ = run(tmp_path, TernaryScheduleHook())
    for layer in ternary_layers(runner.model).values():
        for row in layer.ternary_weight.flatten(1):
            assert len(row.abs().unique()) <= 2


@pytest.mark.parametrize('stop', [2, 4, 6])
@pytest.mark.parametrize('amp', [False, True])
def test_resume_equals_never_stopping(tmp_path, stop, amp):

    def hooks():
        return [
            TernaryScheduleHook(begin=4, temperature=(0.0, 4.0)),
            dict(type='TernaryRegularizerHook', loss_weight=1e-2, end=5),
            dict(type='TernaryStatisticsHook', interval=1)
        ]

    def wrapper():
        cfg = dict(optimizer=dict(type='AdamW', lr=1e-2))
        if amp:
            cfg.update(type='CPUAmpOptimWrapper')
        return cfg

    def make(folder, **kwargs):
        return toy_runner(
            folder, hooks(), epochs=8, optim_wrapper=wrapper(), **kwargs)

    whole = make(tmp_path / 'whole')
    whole.train()
    resumed = make(
        tmp_path / 'resumed',
        resume=True,
        load_from=str(tmp_path / 'whole' / f'epoch_{stop}.pth'))
    resumed.train()
    expected, got = whole.model.state_dict(), resumed.model.state_dict()
    assert list(expected) == list(got)
    for key in expected:
        assert torch.equal(expected[key], got[key]), key
    for a, b in zip(whole.optim_wrapper.state_dict()['state'].values(),
                    resumed.optim_wrapper.state_dict()['state'].values()):
        assert all(torch.equal(a[key], b[key]) for key in a)
    for key, history in whole.message_hub.log_scalars.items():
        if 'time' not in key and 'memory' not in key:
            again = resumed.message_hub.log_scalars[key]
            assert history.data[0].tolist() == again.data[0].tolist(), key


@pytest.mark.parametrize('kwargs, message', [
    (dict(begin=-1), 'begin.*>= 0.*-1'),
    (dict(begin=dict(neck=1.5)), 'begin.*share of the run.*1.5'),
    (dict(approach='slow'), "approach.*'proximal', 'float'.*'slow'"),
    (dict(temperature=(0, -1)), r'temperature.*>= 0.*\(0, -1\)'),
    (dict(temperature=(1, 2, 3)), 'temperature.*two numbers'),
])
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TernaryScheduleHook(**kwargs)


@pytest.mark.parametrize('hook, model, message', [
    (dict(begin=3), None, 'begin=3 is iteration 12.*ends at 12'),
    (dict(begin=dict(nek=1)), None, "begin names 'nek'.*backbone.*neck"),
    (dict(), ToyModel(ternary=False), 'TernaryScheduleHook needs.*ToyModel'),
])
def test_hook_and_run_must_fit(tmp_path, hook, model, message):
    runner = toy_runner(tmp_path, [TernaryScheduleHook(**hook)], model)
    with pytest.raises(ValueError, match=message):
        runner.train()
