"""Every verb knows the layers of detectors that are not all plain convs:
attention, deformable attention, windows, standardized and switchable
convs."""
import io
import json
from typing import Any, Dict, Iterator

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.hub import get_config
from mmengine.runner import Runner
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from mmtern import freeze, ternary_layers
from mmtern.analysis.inspection import inspect_config
from mmtern.analysis.measure import measure_model
from mmtern.files import load_detector, save_packed
from .small_detectors import build, images, ternary_twin

CONFIGS = 'configs/{}-lite_shapes.py'


def deformable_detr() -> ConfigDict:
    model = Config.fromfile(CONFIGS.format('deformable_detr_r18')).model
    model.backbone.base_channels = 8
    model.neck.in_channels = [32, 64]
    model.encoder.num_layers = 1
    model.decoder.num_layers = 2
    return model


def swin_retinanet() -> ConfigDict:
    model = Config.fromfile(CONFIGS.format('retinanet_swin')).model
    model.backbone.embed_dims = 16
    model.neck.update(in_channels=[16, 32, 64, 128], out_channels=16)
    model.bbox_head.update(in_channels=16, feat_channels=16)
    return model


def detectors() -> ConfigDict:
    """DetectoRS: adaptive standardized and switchable convs in the backbone
    and once more inside the recursive neck."""
    model = get_config(
        'mmdet::detectors/detectors_cascade-rcnn_r50_1x_coco.py').model
    widths = [32, 64, 128, 256]
    for backbone in (model.backbone, model.neck.rfp_backbone):
        backbone.update(base_channels=8, frozen_stages=-1, norm_eval=False)
        backbone.pop('init_cfg', None)
        backbone.pop('pretrained', None)
    model.neck.rfp_backbone.rfp_inplanes = 16
    model.neck.update(in_channels=widths, out_channels=16, aspp_out_channels=4)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    for head in model.roi_head.bbox_head:
        head.update(in_channels=16, fc_out_channels=32, num_classes=3)
    return model


# The detector, names of some of its ternary layers, and why others stay.
DETECTORS = {
    deformable_detr: ([
        'encoder.layers.0.self_attn.value_proj',
        'decoder.layers.1.self_attn.attn',
        'decoder.layers.1.self_attn.attn.out_proj',
        'decoder.layers.0.ffn.layers.0.0'
    ], {
        'encoder.layers.0.self_attn.sampling_offsets': 'prediction',
        'level_embed': 'DeformableDETR.level_embed',
        'query_embedding': 'Embedding',
        'bbox_head.cls_branches.0': 'prediction',
        'backbone.conv1': 'stem'
    }),
    swin_retinanet: ([
        'backbone.stages.0.blocks.1.attn.w_msa.qkv',
        'backbone.stages.0.blocks.1.attn.w_msa.proj',
        'backbone.stages.3.blocks.0.ffn.layers.1',
        'backbone.stages.1.downsample.reduction'
    ], {
        'backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table':
        'WindowMSA.relative_position_bias_table',
        'backbone.patch_embed.projection':
        'stem',
        'bbox_head.retina_cls':
        'prediction'
    }),
    detectors: ([
        'backbone.layer1.0.conv1', 'backbone.layer2.0.conv2',
        'neck.rfp_modules.0.layer2.0.conv2', 'neck.rfp_aspp.aspp.1'
    ], {
        'backbone.layer2.0.conv2.weight_diff': 'SAConv2d.weight_diff',
        'backbone.layer2.0.conv2.offset_s': 'prediction',
        'backbone.conv1': 'stem'
    }),
}
both = pytest.mark.parametrize('kind', DETECTORS, ids=lambda x: x.__name__)


def ternary(kind) -> torch.nn.Module:
    model = build(ternary_twin(kind()))
    model.init_weights()
    return model


def tensors(node: Any) -> Iterator[Tensor]:
    """All tensors in nested results."""
    if isinstance(node, Tensor):
        yield node
    elif hasattr(node, 'items'):
        for _, value in node.items():
            yield from tensors(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from tensors(value)


@torch.no_grad()
def same(one, other) -> bool:
    """Whether both compute the same from the image up to raw predictions."""
    torch.manual_seed(0)
    batch = one.data_preprocessor(images(128))
    found = [
        list(tensors(x.eval()(**batch, mode='tensor'))) for x in (one, other)
    ]
    assert found[0]
    return len(found[0]) == len(found[1]) and all(map(torch.equal, *found))


def weights_differ(before: Dict[str, Tensor], model) -> bool:
    return all(
        not torch.equal(before[f'{name}.{layer.latent_name}'], layer.latent)
        for name, layer in ternary_layers(model).items())


@both
def test_inspect_and_the_report_of_the_wrapper(kind):
    model = ternary(kind)
    expected, left = DETECTORS[kind]
    assert set(expected) <= set(ternary_layers(model))
    reasons = {x.name: x.reason for x in model.conversion_report.left}
    assert left.items() <= reasons.items()
    console = Console(file=io.StringIO(), width=200)
    inspect_config(
        Config(dict(model=ternary_twin(kind()))), None, console, True)
    text = console.file.getvalue()
    for name, reason in left.items():
        assert any(name in line and f'left: {reason}' in line
                   for line in text.splitlines()), name
    assert 'no ternary twin' not in text


@both
def test_float_checkpoints_in_and_packed_files_out(kind, tmp_path):
    cfg = Config(dict(model=ternary_twin(kind())))
    # The config is as it was, though mmdet's DETRs write into theirs.
    floating, model = build(kind()), build(cfg.model)
    torch.manual_seed(1)
    for parameter in floating.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    assert list(floating.state_dict()) == list(model.state_dict())
    model.load_state_dict(floating.state_dict(), strict=True)
    assert not same(floating, model)
    path = str(tmp_path / 'a.safetensors')
    table = save_packed(model, cfg, path, dict(classes=('a', 'b', 'c')))
    assert table.ratio > 2
    assert same(model, load_detector(path))


@both
def test_frozen_in_training_and_the_same(kind):
    model = ternary(kind).train()
    frozen = freeze(model)
    assert not ternary_layers(frozen)
    assert same(model, frozen)


@both
def test_hooks_reach_every_weight(kind, tmp_path):
    model = ternary(kind)
    batch = images(128)
    data = [
        dict(inputs=x, data_samples=y)
        for x, y in zip(batch['inputs'], batch['data_samples'])
    ]
    hooks = Config.fromfile('configs/_base_/ternary.py').ternary_hooks
    hooks.statistics.interval = 1
    before = {k: v.clone() for k, v in model.state_dict().items()}
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(
            data, batch_size=2, collate_fn=pseudo_collate),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=hooks,
        default_scope='mmdet',
        log_level='ERROR',
        experiment_name=f'{kind.__name__}_{tmp_path.name}')
    runner.train()
    assert weights_differ(before, model)
    scalars, = tmp_path.rglob('scalars.json')
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    logged = {key for row in rows for key in row}
    for part in {name.split('.')[0] for name in ternary_layers(model)}:
        for what in ('cosine', 'zeros', 'flips', 'gradient'):
            assert f'ternary/{part}_{what}' in logged
    assert [x['loss_ternary'] > 0 for x in rows if 'loss_ternary' in x][0]
    # What the report and inspect measure in a checkpoint.
    measures = measure_model(ternary(kind), model.state_dict())
    assert set(measures) == set(ternary_layers(model))
    for name, layer in ternary_layers(model).items():
        assert torch.equal(measures[name].codes, layer.codes.flatten(1)), name


@both
def test_the_backbone_only_is_one_line(kind):
    for model in (build(ternary_twin(kind(), include=['^backbone'])),
                  build(wrapped_backbone(kind()))):
        names = {x.split('.')[0] for x in ternary_layers(model)}
        assert names == {'backbone'}


def wrapped_backbone(model: ConfigDict) -> ConfigDict:
    model.backbone.update(type='TernBackbone', wrapped=model.backbone.type)
    return model
