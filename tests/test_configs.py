"""Every config we ship: builds, trains a step, infers."""
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, init_default_scope

from mmtern import TernaryScheduleHook, ternary_layers
from .small_detectors import images

ROOT = Path(__file__).parent.parent / 'configs'
PATHS = sorted(path.name for path in ROOT.glob('*.py'))
TERNARY = [name for name in PATHS if name.startswith('tern_')]


def load(name: str) -> Config:
    init_default_scope('mmdet')
    return Config.fromfile(str(ROOT / name))


@pytest.mark.parametrize('name', PATHS)
def test_trains_a_step_and_infers(name):
    cfg = load(name)
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(detector, cfg.optim_wrapper)
    batch = images(with_mask='mask' in name)
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    losses = detector.train().train_step(batch, wrapper)
    assert all(value.isfinite().all() for value in losses.values())
    after = detector.state_dict()
    layers = ternary_layers(detector)
    assert bool(layers) == (name in TERNARY)
    moved = {
        key
        for key, value in after.items() if not torch.equal(value, before[key])
    }
    # No ternary layer is frozen.
    assert {f'{key}.weight' for key in layers} <= moved
    with torch.no_grad():
        results = detector.eval().test_step(images())
    assert len(results) == 2
    for key, layer in layers.items():
        rows = layer.ternary_weight.flatten(1)
        scale = rows.abs().amax(1, keepdim=True)
        assert ((rows == 0) | (rows.abs() == scale)).all(), key


@pytest.mark.parametrize('name', TERNARY)
def test_keys_and_shapes_are_the_float_twins(name):
    cfg = load(name)
    twin = dict(cfg.model, type=cfg.model.wrapped)
    twin.pop('wrapped')
    twin.pop('ternary', None)
    with torch.device('meta'):
        ternary, floating = MODELS.build(cfg.model), MODELS.build(twin)
    assert type(ternary) is type(floating)
    assert {
        k: v.shape
        for k, v in ternary.state_dict().items()
    } == {
        k: v.shape
        for k, v in floating.state_dict().items()
    }


@pytest.mark.parametrize('name', TERNARY)
def test_recipe(name):
    """Starts from a float detector, does not decay latent weights, clips
    gradients, says for which batch size its rate is, and stages what is
    there."""
    cfg = load(name)
    assert cfg.load_from
    assert cfg.optim_wrapper.optimizer.weight_decay == 0
    assert cfg.optim_wrapper.clip_grad.max_norm > 0
    assert cfg.auto_scale_lr.base_batch_size in (8, 16)
    assert not cfg.auto_scale_lr.enable
    hooks = [HOOKS.build(hook) for hook in cfg.custom_hooks]
    schedule, = [x for x in hooks if isinstance(x, TernaryScheduleHook)]
    if isinstance(schedule.begin, dict):
        assert set(schedule.begin) <= set(cfg.model)
        assert max(schedule.begin.values()) < cfg.train_cfg.max_epochs
