"""Every config we ship, and what a config of the user's own inherits."""
import copy
import re
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, init_default_scope

from mmtern import TernaryScheduleHook, ternary_layers
from mmtern.analysis.plan import plan_config
from .small_detectors import images
from .toy import toy_runner

RESTS = re.compile(r'multi_level_cls_convs|^decoder\.layers\.0\.self_attn')
ROOT = Path(__file__).parent.parent / 'configs'
PATHS = sorted(path.name for path in ROOT.glob('*.py'))
TERNARY = [name for name in PATHS if name.startswith('tern_')]
OURS = [
    'TernaryScheduleHook', 'TernaryRegularizerHook', 'TernaryDistillationHook',
    'TernaryStatisticsHook', 'TernaryBatchNormHook', 'TernaryGuardHook'
]
# One config or more of each folder of mmdet's that sets custom_hooks.
WITH_CUSTOM_HOOKS = [
    'bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_'
    'test-mot17halfval.py',
    'deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_'
    'test-mot17halfval.py',
    'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    'pascal_voc/ssd300_voc0712.py',
    'qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py',
    'rtmdet/rtmdet_s_8xb32-300e_coco.py',
    'rtmdet/rtmdet-ins_s_8xb32-300e_coco.py',
    'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_'
    'semi-0.1-coco.py',
    'sort/sort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_'
    'test-mot17halfval.py',
    'ssd/ssd300_coco.py',
    'strongsort/yolox_x_8xb4-80e_crowdhuman-mot17halftrain_'
    'test-mot17halfval.py',
    'yolact/yolact_r50_1xb8-55e_coco.py',
    'yolox/yolox_s_8xb8-300e_coco.py',
]


def load(name: str) -> Config:
    init_default_scope('mmdet')
    return Config.fromfile(str(ROOT / name))


def hook_names(cfg: Config, work_dir: Path) -> list:
    """Types of the hooks that a runner of this config has, in the order in
    which it calls them."""
    runner = toy_runner(
        work_dir,
        cfg.get('custom_hooks') or [],
        default_hooks=dict(cfg.default_hooks))
    return [type(hook).__name__ for hook in runner.hooks]


def differences(one: Config, other: Config, path: str = '') -> dict:
    """Dotted keys in which two configs differ, with both values."""
    found = {}
    for key in [*one.keys(), *other.keys()]:
        name, values = f'{path}{key}', (one.get(key), other.get(key))
        if all(isinstance(value, dict) for value in values):
            found.update(differences(*values, f'{name}.'))
        elif values[0] != values[1]:
            found[name] = values
    return found


@pytest.mark.parametrize('name', PATHS)
def test_trains_a_step_and_infers(name):
    cfg = load(name)
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model)
    if hasattr(detector, 'level_embed'):
        # Any memory, until weights are initialized.
        torch.nn.init.normal_(detector.level_embed)
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
    # No ternary layer is frozen; but YOLOX's class towers learn only on the
    # levels that an object was assigned to, and untrained there are few, and
    # DETR's first decoder layer sees zeros.
    frozen = {f'{k}.{x.latent_name}' for k, x in layers.items()} - moved
    assert all(RESTS.search(key) for key in frozen), frozen
    with torch.no_grad():
        results = detector.eval().test_step(images())
    assert len(results) == 2
    for key, layer in layers.items():
        rows = layer.filters(layer.ternary_weight).flatten(1)
        scale = rows.abs().amax(1, keepdim=True)
        assert ((rows == 0) | (rows.abs() == scale)).all(), key


@pytest.mark.parametrize('name', PATHS)
def test_inspects(name):
    # Swin reads a number of a tensor when it is built.
    with torch.device('cpu' if 'swin' in name else 'meta'):
        plan = plan_config(load(name))
    assert plan.wrapped == (name in TERNARY)
    assert plan.report.ternary_share > 0.5
    stems = [x.name for x in plan.report.left if x.reason == 'stem']
    assert len(stems) == 1 and stems[0].startswith('backbone.')


@pytest.mark.parametrize('name', TERNARY)
def test_keys_and_shapes_are_the_float_twins(name):
    cfg = load(name)
    twin = dict(cfg.model, type=cfg.model.wrapped)
    twin.pop('wrapped')
    twin.pop('ternary', None)
    before = copy.deepcopy(cfg.model.to_dict())
    with torch.device('cpu' if 'swin' in name else 'meta'):
        ternary = MODELS.build(cfg.model)
        # Some of mmdet's would write into it.
        assert cfg.model.to_dict() == before
        floating = MODELS.build(twin)
    assert type(ternary) is type(floating)
    assert {
        k: v.shape
        for k, v in ternary.state_dict().items()
    } == {
        k: v.shape
        for k, v in floating.state_dict().items()
    }


# What a ternary config may change of its float twin.
DELTA = {
    'model.type', 'model.wrapped', 'model.ternary', 'custom_imports',
    'load_from', 'sync_bn', 'ternary_hooks', 'ternary_backbone',
    'ternary_optim_wrapper', 'model.backbone.frozen_stages',
    'model.backbone.norm_eval', 'model.backbone.init_cfg',
    'model.backbone.norm_cfg.requires_grad', 'optim_wrapper.optimizer.lr',
    'optim_wrapper.optimizer.weight_decay', 'optim_wrapper.clip_grad',
    'optim_wrapper.clip_grad.max_norm'
}
# Of the small data sets: half the epochs, after those of the twin.
SHORTER = {'max_epochs', 'train_cfg.max_epochs', 'param_scheduler'}
# Where AdamW was measured to be better for ternary weights than SGD.
ADAMW = {
    f'optim_wrapper.optimizer.{key}'
    for key in ('type', 'momentum', 'nesterov')
}


def child_of(base: str, folder: Path, text: str = '') -> Config:
    """A config with one base, as a user writes it."""
    path = folder / 'child.py'
    path.write_text(f'_base_ = {base!r}\n{text}')
    init_default_scope('mmdet')
    return Config.fromfile(str(path))


def float_twin(name: str, folder: Path) -> Config:
    """The file of the same name, or else the first base that is not a
    part."""
    own = ROOT / name.replace('tern_', '', 1)
    if own.exists():
        return load(own.name)
    bases = Config._get_base_files(str(ROOT / name))
    base = next(x for x in bases if '/_base_/' not in x)
    if base.startswith('mmdet::'):
        return child_of(base, folder)
    return float_twin(Path(base).name, folder)


@pytest.mark.parametrize('name', TERNARY)
def test_only_the_delta_differs_from_the_float_twin(name, tmp_path):
    floating, ternary = float_twin(name, tmp_path), load(name)
    delta = differences(floating, ternary)
    recipe = 'ternary_backbone' in ternary
    allowed = DELTA if recipe else DELTA | SHORTER | ADAMW
    hooks = {f'default_hooks.{key}' for key in ternary.ternary_hooks}
    assert set(delta) <= allowed | hooks
    assert hooks <= set(delta)
    rates = [cfg.optim_wrapper.optimizer.lr for cfg in (floating, ternary)]
    if recipe:
        assert rates[1] == rates[0] / 2


@pytest.mark.parametrize('name', TERNARY)
def test_recipe(name):
    """Starts from a float detector, does not decay latent weights, clips
    gradients, freezes nothing, says for which batch size its rate is, runs
    both phases, and stages what is there."""
    cfg = load(name)
    assert cfg.load_from
    assert cfg.optim_wrapper.optimizer.weight_decay == 0
    assert cfg.optim_wrapper.clip_grad.max_norm > 0
    assert cfg.auto_scale_lr.base_batch_size in (8, 16)
    assert not cfg.auto_scale_lr.enable
    assert cfg.model.backbone.get('frozen_stages', -1) == -1
    assert not cfg.model.backbone.get('norm_eval', False)
    hooks = [HOOKS.build(cfg.default_hooks[x]) for x in cfg.ternary_hooks]
    assert [type(hook).__name__ for hook in hooks] == OURS
    schedule, = [x for x in hooks if isinstance(x, TernaryScheduleHook)]
    if isinstance(schedule.begin, dict):
        assert set(schedule.begin) <= set(cfg.model)
        assert max(schedule.begin.values()) < cfg.train_cfg.max_epochs


@pytest.mark.parametrize('name', WITH_CUSTOM_HOOKS)
def test_hooks_join_those_of_mmdets_config(name, tmp_path):
    base = child_of(f'mmdet::{name}', tmp_path)
    assert 'custom_hooks' in base
    child = child_of(
        f'mmdet::{name}', tmp_path, f"""
custom_imports = dict(imports=['mmtern'], allow_failed_imports=False)
model = dict(type='TernDetector', wrapped={base.model.type!r})
default_hooks = dict(ternary=dict(type='TernaryScheduleHook'))
""")
    for folder in ('base', 'child'):
        (tmp_path / folder).mkdir()
    expected = hook_names(base, tmp_path / 'base')
    names = hook_names(child, tmp_path / 'child')
    assert 'TernaryScheduleHook' in names
    names.remove('TernaryScheduleHook')
    assert names == expected


@pytest.mark.parametrize('name, wrapped', [
    ('retinanet/retinanet_r50_fpn_1x_coco.py', 'RetinaNet'),
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'FasterRCNN'),
    ('panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py', 'PanopticFPN'),
])
def test_a_users_own_config_inherits_the_recipe(name, wrapped, tmp_path):
    base = child_of(f'mmdet::{name}', tmp_path)
    cfg = child_of([f'mmdet::{name}', 'mmtern::configs/_base_/ternary_1x.py'],
                   tmp_path, f"""
model = dict(
    type='TernDetector', wrapped='{wrapped}', backbone=_base_.ternary_backbone)
default_hooks = _base_.ternary_hooks
optim_wrapper = _base_.ternary_optim_wrapper
optim_wrapper.optimizer.lr = _base_.optim_wrapper.optimizer.lr / 2
load_from = 'float.pth'
""")
    delta = differences(base, cfg)
    hooks = {f'default_hooks.{key}' for key in cfg.ternary_hooks}
    assert set(delta) <= DELTA | hooks
    rate, half = (x.optim_wrapper.optimizer.lr for x in (base, cfg))
    assert half == rate / 2
    assert cfg.optim_wrapper.optimizer.weight_decay == 0
    assert plan_config(cfg).wrapped
    for folder in ('base', 'child'):
        (tmp_path / folder).mkdir()
    names = hook_names(cfg, tmp_path / 'child')
    assert [x for x in names if x in OURS] == OURS
    assert [x for x in names
            if x not in OURS] == hook_names(base, tmp_path / 'base')
