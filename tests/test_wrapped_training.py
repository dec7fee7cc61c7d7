"""Training under what users put around a model: gradient accumulation, EMA,
checkpointed activations, other dtypes."""
import copy

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import FlexibleRunner
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from mmtern import TernaryScheduleHook, ternary_layers
from mmtern.engine.hooks.runner_checks import refuse_sharded
from mmtern.ops import cosine_distance
from .toy import ToyData, ToyModel, toy_runner
from .toy_types import FrozenNormToy


def batch(size=8):
    data = ToyData()
    return torch.stack([data[i]['inputs'] for i in range(size)]), torch.stack(
        [data[i]['data_samples'] for i in range(size)])


@pytest.mark.parametrize('amp', [False, True])
def test_accumulation_equals_one_large_batch(tmp_path, amp):
    """4 batches of 2 against 1 of 8 where the norm is frozen."""
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
    if amp:
        wrapper.update(type='CPUAmpOptimWrapper')
    torch.manual_seed(0)
    model = FrozenNormToy()
    large = copy.deepcopy(model).train()
    hooks = [
        TernaryScheduleHook(begin=0, temperature=(4.0, 4.0)),
        dict(
            type='TernaryRegularizerHook', loss_weight=1e-2, shape='constant')
    ]
    runner = toy_runner(
        tmp_path,
        hooks,
        model,
        epochs=3,
        optim_wrapper=dict(wrapper, accumulative_counts=4))
    runner.train()

    for layer in ternary_layers(large).values():
        layer.quantizer.temperature = 4.0
    optimizer = torch.optim.SGD(large.parameters(), lr=0.1)
    inputs, targets = batch()
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=amp):
            loss = large(inputs, targets, mode='loss')['loss_toy']
            for layer in ternary_layers(large).values():
                loss = loss + 1e-2 * cosine_distance([layer.weight],
                                                     layer.projection)
        loss.backward()
        optimizer.step()
    tolerance = 2e-3 if amp else 1e-5
    for key, value in large.state_dict().items():
        torch.testing.assert_close(
            runner.model.state_dict()[key], value, rtol=0, atol=tolerance)


def test_ema_is_validated_by_its_own_ternary_weights():
    """Averaging writes in place and swaps through ``.data``; neither may
    leave the last ternary weights in use."""
    torch.manual_seed(0)
    model = FrozenNormToy().train()
    ema = ExponentialMovingAverage(model, momentum=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    inputs, targets = batch()
    for _ in range(5):
        optimizer.zero_grad()
        model(inputs, targets, mode='loss')['loss_toy'].backward()
        optimizer.step()
        ema.update_parameters(model)
    trained = model.eval()(inputs)
    averaged = {
        key: value.clone()
        for key, value in ema.module.state_dict().items()
    }
    # What EMAHook does around validation.
    for mine, other in zip(model.parameters(), ema.module.parameters()):
        swap = mine.data.clone()
        mine.data.copy_(other.data)
        other.data.copy_(swap)
    fresh = FrozenNormToy().eval()
    fresh.load_state_dict(averaged)
    validated = model.train().eval()(inputs)
    assert torch.equal(validated, fresh(inputs))
    assert not torch.equal(validated, trained)


@pytest.mark.parametrize('hook', [
    dict(type='EMAHook', momentum=0.1),
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.1)
])
def test_ema_hook_validates_the_average(tmp_path, hook):
    seen = {}

    class Peek(BaseMetric):
        """Looks at the weights a validation runs with."""

        def process(self, *_):
            self.results.append(1)

        def compute_metrics(self, results):
            for name, layer in ternary_layers(seen['model']).items():
                twin = copy.deepcopy(layer)
                assert torch.equal(twin.ternary_weight, layer.ternary_weight)
                seen[name] = layer.weight.detach().clone()
            return {}

    model = FrozenNormToy()
    seen['model'] = model
    runner = toy_runner(
        tmp_path, [TernaryScheduleHook(), hook],
        model,
        val_dataloader=DataLoader(ToyData(), batch_size=4),
        val_cfg=dict(),
        val_evaluator=[Peek()])
    runner.train()
    file = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    for name, layer in ternary_layers(model).items():
        assert not torch.equal(seen[name], layer.weight)
        # The trained weights are back, and nothing of the average is left.
        twin = copy.deepcopy(layer)
        assert torch.equal(twin.ternary_weight, layer.ternary_weight)
        # The checkpoint's state_dict is the average that was validated.
        assert torch.equal(file['state_dict'][f'{name}.weight'], seen[name])


@pytest.mark.parametrize('reentrant', [False, True])
def test_checkpointed_activations_give_the_same_gradients(reentrant):
    torch.manual_seed(0)
    plain = FrozenNormToy().train()
    for layer in ternary_layers(plain).values():
        layer.quantizer.temperature = 4.0
    saving = copy.deepcopy(plain)
    inputs = batch()[0].requires_grad_()
    for _ in range(2):  # the second pass finds the first one's graph
        plain.neck(plain.backbone(inputs)).square().sum().backward()
        hidden = checkpoint(saving.backbone, inputs, use_reentrant=reentrant)
        checkpoint(
            saving.neck, hidden,
            use_reentrant=reentrant).square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters()):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_whole_model_in_another_dtype(dtype):
    torch.manual_seed(0)
    model = FrozenNormToy().train().to(dtype)
    for layer in ternary_layers(model).values():
        assert layer.ternary_weight.dtype == dtype
    out = model.bbox_head(
        model.neck(model.backbone(batch()[0].to(dtype))).mean((2, 3)))
    out.square().mean().backward()
    assert out.dtype == dtype
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_bfloat16_for_200_iterations_without_nan(tmp_path):
    wrapper = dict(
        type='CPUAmpOptimWrapper', optimizer=dict(type='AdamW', lr=1e-2))
    runner = toy_runner(
        tmp_path, [
            TernaryScheduleHook(begin=10),
            dict(type='TernaryRegularizerHook', loss_weight=1e-2),
            dict(type='TernaryGuardHook', interval=1)
        ],
        ToyModel(),
        epochs=50,
        optim_wrapper=wrapper)
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 200 and torch.tensor(losses).isfinite().all()


def test_averaging_is_warned_of(tmp_path, caplog):
    for hooks, warned in (([], False), ([dict(type='EMAHook')], True)):
        runner = toy_runner(
            tmp_path / str(warned), [TernaryScheduleHook(), *hooks], epochs=1)
        lines = []
        runner.logger.log = lambda level, text: lines.append(text)
        runner.train()
        assert any('EMAHook averages' in line for line in lines) is warned


def test_flexible_runner_on_one_device(tmp_path):
    torch.manual_seed(0)
    runner = FlexibleRunner(
        model=FrozenNormToy(),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(ToyData(), batch_size=2),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[
            TernaryScheduleHook(),
            dict(type='TernaryRegularizerHook'),
            dict(type='TernaryStatisticsHook', interval=1),
            dict(type='TernaryGuardHook', interval=1)
        ],
        default_scope='mmdet',
        log_level='ERROR',
        experiment_name=f'flexible_{tmp_path.name}')
    runner.train()
    assert runner.iter == 8


class FullyShardedDataParallel(nn.Module):
    """Stands in for torch's, which wants an accelerator."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_sharded_weights_are_refused():
    refuse_sharded(ToyModel())
    with pytest.raises(ValueError, match='wrapped in FullySharded.*MMDist'):
        refuse_sharded(FullyShardedDataParallel(ToyModel()))
    with pytest.raises(ValueError, match='wrapped in FullySharded'):
        refuse_sharded(nn.Sequential(FullyShardedDataParallel(ToyModel())))
