import copy
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner, save_checkpoint
from torch.utils.data import Dataset

from mmtern import TernaryDistillationHook
from mmtern.engine.hooks.distillation import feature_distance
from mmtern.models import TernBackbone, float_config
from ...small_detectors import (build, images, small_faster_rcnn, small_fcos,
                                small_retinanet, soft_teacher, ternary_twin)


class FourImages(Dataset):
    """Four images with boxes, two alike."""

    def __init__(self):
        batch = images()
        self.items = [
            dict(inputs=x, data_samples=y)
            for x, y in zip(batch['inputs'], batch['data_samples'])
        ] * 2

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return copy.deepcopy(self.items[index])


class StopAfterTwo(Hook):
    priority = 'LOWEST'

    def after_train_epoch(self, runner):
        if runner.epoch == 1:
            raise KeyboardInterrupt


class Seen(Hook):

    def before_train(self, runner):
        self.losses, self.weights = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.weights.append(copy.deepcopy(runner.model.state_dict()))

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        self.losses.append({k: v.item() for k, v in outputs.items()})


def float_file(tmp_path, model=None, name='float.pth'):
    """A float detector's checkpoint; its BatchNorm has seen images."""
    cfg = model or small_retinanet(frozen_stages=-1, norm_eval=True)
    detector = build(cfg)
    generator = torch.Generator().manual_seed(1)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2, generator=generator)
    path = str(tmp_path / name)
    save_checkpoint(
        dict(
            state_dict=detector.state_dict(),
            meta=dict(cfg=f'model = dict(type={cfg.type!r})')), path)
    return path


def config(work_dir, load_from, hook=None, model=None, epochs=2):
    # conftest.py forgets at each test's end what was registered.
    DATASETS.register_module(module=FourImages, force=True)
    HOOKS.register_module(module=StopAfterTwo, force=True)
    return Config(
        dict(
            model=model
            or ternary_twin(small_retinanet(frozen_stages=-1, norm_eval=True)),
            default_scope='mmdet',
            work_dir=str(work_dir),
            load_from=load_from,
            train_dataloader=dict(
                batch_size=2,
                collate_fn=dict(type='pseudo_collate'),
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='FourImages')),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-5)),
            custom_hooks=[
                dict(type='TernaryScheduleHook'),
                dict(type='TernaryDistillationHook', **(hook or {}))
            ],
            randomness=dict(seed=0),
            # mmengine keeps a log for each name, and where it is written.
            experiment_name=f'{work_dir.parent.name}_{work_dir.name}',
            log_level='ERROR'))


def trained(cfg):
    runner = Runner.from_cfg(cfg)
    seen = Seen()
    runner.register_hook(seen, 'LOWEST')
    runner.train()
    return runner, seen.losses


def losses_of_twin(tmp_path, plain, **kwargs):
    """Losses of the ternary twin, which begins from ``plain`` in float."""
    path = float_file(tmp_path, plain)
    _, losses = trained(
        config(tmp_path / 'run', path, model=ternary_twin(plain), **kwargs))
    return losses


def test_relative_to_the_teachers_variance():
    torch.manual_seed(0)
    teacher = torch.randn(2, 3, 4, 5) * 7 + torch.tensor([1., 2., 3.]).view(
        1, 3, 1, 1)
    mean = teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher)
    assert feature_distance(teacher, teacher) == 0
    torch.testing.assert_close(
        feature_distance(mean, teacher), torch.tensor(1.))
    torch.testing.assert_close(
        feature_distance(2 * teacher - mean, teacher), torch.tensor(1.))
    assert feature_distance(teacher, torch.zeros_like(teacher)) > 0


@pytest.mark.parametrize('teacher', [
    torch.full((1, 3, 1, 1), -4.0),
    torch.full((2, 1, 4, 4), -4.0) + 1e-5 * torch.randn(2, 1, 4, 4),
])
def test_maps_that_hardly_vary_do_not_outweigh_all_others(teacher):
    """One cell, or a head that knows only how rare objects are."""
    assert feature_distance(teacher + 0.1, teacher) == pytest.approx(
        0.01 / (1e-3 * 16), rel=1e-3)


@pytest.mark.parametrize('modules', [
    None,
    ['neck', 'backbone.layer3'],
    ['bbox_head.retina_cls'],
])
def test_loss_is_the_weighted_distance_to_the_float_start(tmp_path, modules):
    load_from = float_file(tmp_path)
    cfg = config(
        tmp_path / 'run',
        load_from,
        dict(loss_weight=2.0, modules=modules),
        epochs=4)
    runner = Runner.from_cfg(cfg)
    seen = Seen()
    runner.register_hook(seen, 'LOWEST')
    runner.train()
    # beta is 0: the student computes with the float start's own weights.
    assert seen.losses[0]['loss_distillation'] < 1e-10
    # The last iteration is ternary.
    teacher = build(float_config(cfg.model)).eval()
    teacher.load_state_dict(torch.load(load_from)['state_dict'])
    student = build(cfg.model).train()
    student.load_state_dict(seen.weights[-1])
    data = student.data_preprocessor(images(), True)
    with torch.no_grad():
        of_student, of_teacher = (
            _maps(x, data['inputs']) for x in (student, teacher))
    expected = 2 * sum(
        torch.stack(
            list(map(feature_distance, of_student[name],
                     of_teacher[name]))).mean()
        for name in modules or ['backbone', 'neck', 'bbox_head'])
    last = seen.losses[-1]
    assert last['loss_distillation'] == pytest.approx(
        float(expected), rel=1e-4)
    assert expected > 0.01
    parts = sum(v for k, v in last.items() if 'loss' in k and k != 'loss')
    assert last['loss'] == pytest.approx(parts, rel=1e-5)


def _maps(model, inputs):
    stem = model.backbone.maxpool(
        model.backbone.relu(
            model.backbone.norm1(model.backbone.conv1(inputs))))
    middle = model.backbone.layer3(
        model.backbone.layer2(model.backbone.layer1(stem)))
    features = model.extract_feat(inputs)
    classes, boxes = model.bbox_head(features)
    return {
        'backbone': model.backbone(inputs),
        'neck': features,
        'backbone.layer3': [middle],
        'bbox_head': classes + boxes,
        'bbox_head.retina_cls': classes
    }


def test_heads_are_compared_as_they_train(tmp_path):
    """FCOS' head multiplies its boxes by the stride in eval."""
    plain = small_fcos(frozen_stages=-1, norm_eval=True)
    plain.bbox_head.norm_on_bbox = True
    losses = losses_of_twin(tmp_path, plain, epochs=1)
    assert losses[0]['loss_distillation'] < 1e-10


def test_leaves_no_trace_in_model_and_checkpoint(tmp_path):
    load_from = float_file(tmp_path)
    runner, _ = trained(config(tmp_path / 'run', load_from))
    assert set(runner.model.state_dict()) == set(
        torch.load(load_from)['state_dict'])
    assert not any(x._forward_hooks or x._forward_pre_hooks
                   for x in runner.model.modules())


def test_without_weight_nothing_changes(tmp_path):
    load_from = float_file(tmp_path)
    with_hook = config(tmp_path / 'zero', load_from, dict(loss_weight=0.0))
    without = config(tmp_path / 'without', load_from)
    without.custom_hooks.pop()
    a, b = (trained(cfg)[0].model.state_dict() for cfg in (with_hook, without))
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_resumed_run_finds_its_teacher(tmp_path):
    load_from = float_file(tmp_path)
    whole, losses = trained(config(tmp_path / 'whole', load_from, epochs=4))
    cfg = config(tmp_path / 'parts', load_from, epochs=4)
    cfg.custom_hooks.append(dict(type='StopAfterTwo'))
    with pytest.raises(KeyboardInterrupt):
        trained(cfg)
    cfg = config(tmp_path / 'parts', None, epochs=4)
    cfg.resume = True
    parts, rest = trained(cfg)
    assert rest == losses[-len(rest):]
    torch.testing.assert_close(
        parts.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def bare_file_of_other_classes(tmp_path):
    other = small_retinanet(frozen_stages=-1, norm_eval=True)
    other.bbox_head.num_classes = 7
    path = str(tmp_path / 'bare.pth')
    torch.save(build(other).state_dict(), path)
    return path


def test_of_bare_weights_of_other_classes_the_features_teach(tmp_path):
    hook = dict(checkpoint=bare_file_of_other_classes(tmp_path))
    _, losses = trained(config(tmp_path / 'run', None, hook, epochs=1))
    assert losses[0]['loss_distillation'] > 0
    hook.update(modules=['backbone', 'neck'])
    _, same = trained(config(tmp_path / 'named', None, hook, epochs=1))
    assert losses == same


def _fails(tmp_path, match, load_from=None, hook=None, model=None):
    with pytest.raises(ValueError, match=match):
        trained(config(tmp_path / 'run', load_from, hook, model))


def ternary_file(tmp_path):
    path = str(tmp_path / 'ternary.pth')
    cfg = "model = dict(type='TernDetector', wrapped='RetinaNet')"
    save_checkpoint(
        dict(
            state_dict=build(small_retinanet()).state_dict(),
            meta=dict(cfg=cfg)), path)
    return path


def wider_file(tmp_path):
    wider = small_retinanet()
    wider.neck.out_channels = wider.bbox_head.in_channels = 24
    return float_file(tmp_path, wider)


UNFIT = [(ternary_file, 'was trained as a ternary RetinaNet'),
         (wider_file, "does not fit the config's RetinaNet")]


@pytest.mark.parametrize('make, match', UNFIT)
def test_refuses_a_named_teacher_that_does_not_fit(tmp_path, make, match):
    _fails(tmp_path, match, None, dict(checkpoint=make(tmp_path)))


@pytest.mark.parametrize(
    'make, match', [(lambda path: None, "write load_from='...'")] + UNFIT)
def test_goes_without_where_the_run_does_not_begin_in_float(
        tmp_path, make, match):
    cfg = config(tmp_path / 'run', make(tmp_path), epochs=1)
    cfg.log_level = 'WARNING'
    _, losses = trained(cfg)
    assert all('loss_distillation' not in x for x in losses)
    log, = (tmp_path / 'run').glob('*/*.log')
    assert re.search(f'no float detector teaches this run: .*{match}',
                     log.read_text())


def test_refuses_a_named_head_of_other_classes(tmp_path):
    _fails(
        tmp_path, 'does not fit.*like bbox_head.retina_cls', None,
        dict(
            checkpoint=bare_file_of_other_classes(tmp_path),
            modules=['neck', 'bbox_head']))


def test_goes_without_where_detectors_lie_within(tmp_path):
    """They are no part that makes maps of an image."""
    model = soft_teacher()
    path = float_file(tmp_path, float_config(model))
    cfg = config(tmp_path / 'run', path, model=model)
    cfg.custom_hooks = [dict(type='TernaryDistillationHook')]
    cfg.log_level = 'WARNING'
    Runner.from_cfg(cfg).call_hook('before_train')
    log, = (tmp_path / 'run').glob('*/*.log')
    assert 'SoftTeacher has neither neck nor backbone' in log.read_text()


@pytest.mark.parametrize('modules, match', [
    ('nek', "has no such module, only .*neck"),
    ('bbox_head.loss_cls', 'what puts out feature maps'),
    (['neck', 'backbone.norm'], 'has no such module'),
])
def test_names_a_module_that_will_not_do(tmp_path, modules, match):
    _fails(tmp_path, match, float_file(tmp_path), dict(modules=modules))


def test_regions_are_not_compared(tmp_path):
    """Student and teacher have other proposals."""
    plain = small_faster_rcnn()
    _fails(tmp_path, 'no part of the backbone, the neck or a dense head',
           float_file(tmp_path, plain),
           dict(modules='roi_head.bbox_roi_extractor'), ternary_twin(plain))


@pytest.mark.parametrize('kwargs', [
    dict(loss_weight=-1),
    dict(loss_weight='5'),
    dict(loss_weight=True),
])
def test_says_which_argument_is_wrong(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        TernaryDistillationHook(**kwargs)


def test_float_config_has_no_wrapper_at_any_depth():
    plain = small_faster_rcnn()
    nested = copy.deepcopy(plain)
    nested.backbone.update(type='TernBackbone', wrapped='ResNet')
    nested.neck.update(
        type='TernNeck', wrapped='FPN', ternary=dict(exclude=['fpn']))
    before = copy.deepcopy(nested)
    assert float_config(nested) == plain
    assert float_config(nested).neck.type == 'FPN'
    assert nested == before
    assert float_config(ternary_twin(plain, scale='lsq')) == plain
    # A wrapper as new-style configs import it, and a layer by its name.
    nested.backbone.type = TernBackbone
    nested.neck.conv_cfg = dict(type='TernConv2d', ternary=dict(scale='lsq'))
    twin = float_config(nested)
    assert twin.backbone == plain.backbone
    assert twin.neck.conv_cfg == dict(type='Conv2d')


def test_without_a_neck_the_backbone_teaches(tmp_path):
    plain = small_retinanet(frozen_stages=-1, out_indices=(3, ))
    plain.neck = None
    plain.bbox_head.in_channels = 64
    plain.bbox_head.anchor_generator.strides = [32]
    losses = losses_of_twin(tmp_path, plain, epochs=4)
    assert losses[-1]['loss_distillation'] > 0


def test_two_stage_detectors_learn(tmp_path):
    plain = small_faster_rcnn()
    losses = losses_of_twin(tmp_path, plain)
    assert all(x['loss_distillation'] > 0 for x in losses[1:])


def test_the_teacher_of_ternary_layers_in_a_config_is_float(tmp_path):
    model = ternary_twin(small_retinanet(frozen_stages=-1, norm_eval=True))
    model.type = model.pop('wrapped')
    model.pop('ternary')
    model.neck.conv_cfg = dict(type='TernConv2d')
    cfg = config(tmp_path / 'run', float_file(tmp_path), model=model)
    _, losses = trained(cfg)
    assert losses[0]['loss_distillation'] < 1e-10


def test_maps_without_a_gradient_do_not_teach(tmp_path):
    """Checkpointing computes a block's inner maps without a graph."""
    model = ternary_twin(
        small_retinanet(frozen_stages=-1, norm_eval=True, with_cp=True))
    _fails(tmp_path, 'layer2.0.conv1.*no gradient.*with_cp',
           float_file(tmp_path),
           dict(modules=['neck', 'backbone.layer2.0.conv1']), model)


def test_maps_of_other_shapes_are_told(tmp_path):
    """TridentNet trains with three branches and infers with one."""

    class Narrow(Hook):
        """The rest of the detector is to see one branch."""

        def before_train(self, runner):
            runner.model.neck.register_forward_hook(
                lambda module, args, maps: [x[:len(x) // 3] for x in maps])

    runner = Runner.from_cfg(config(tmp_path / 'run', float_file(tmp_path)))
    runner.model.neck.register_forward_hook(
        lambda module, args, maps: [x.repeat(3, 1, 1, 1) for x in maps])
    runner.register_hook(Narrow(), 'LOWEST')
    with pytest.raises(ValueError, match='neck puts out .* other shapes'):
        runner.train()


def test_a_teacher_that_is_far_from_its_copy_is_told(tmp_path):
    """Its frozen statistics never fitted its weights."""
    path = float_file(tmp_path)
    file = torch.load(path, weights_only=True)
    for name, value in file['state_dict'].items():
        if name.endswith('running_var'):
            value.fill_(0.01)
    torch.save(file, path)
    model = ternary_twin(small_retinanet(frozen_stages=-1, norm_eval=False))
    cfg = config(tmp_path / 'run', path, model=model, epochs=1)
    cfg.log_level = 'WARNING'
    trained(cfg)
    log, = (tmp_path / 'run').glob('*/*.log')
    assert 'the maps of neck begin' in log.read_text()


def test_an_interrupted_runner_trains_on(tmp_path):

    class Interrupt(Hook):
        begun = 0

        def after_train_iter(self, runner, *args, **kwargs):
            copy.deepcopy(runner.model)
            self.begun += 1
            if self.begun == 2:
                raise KeyboardInterrupt

    runner = Runner.from_cfg(config(tmp_path / 'run', float_file(tmp_path)))
    runner.register_hook(Interrupt(), 'LOWEST')
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    runner.train()
    assert not any(x._forward_hooks or x._forward_pre_hooks
                   for x in runner.model.modules())
