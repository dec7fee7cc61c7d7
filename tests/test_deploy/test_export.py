"""Exported detectors compute what PyTorch does."""
import copy
import os.path as osp
import runpy
import sys

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmtern.deploy import OnnxDetector, check_onnx_packages, save_onnx
from mmtern.deploy.networks import group_levels
from mmtern.files.load import build_trained
from mmtern.models import float_config
from tests.small_detectors import (small_faster_rcnn, small_retinanet,
                                   ternary_twin)

onnx = pytest.importorskip('onnx', '1.20')
pytest.importorskip('onnxruntime', '1.24')

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
MAKERS = dict(retinanet=small_retinanet, faster_rcnn=small_faster_rcnn)
META = dict(classes=('a', 'b', 'c'))
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='PackDetInputs')
]


def build(name, **ternary):
    """A small detector with random weights and statistics that shows boxes,
    and its config."""
    init_default_scope('mmdet')
    cfg = ternary_twin(MAKERS[name](), **ternary)
    cfg.test_cfg.get('rcnn', cfg.test_cfg).update(
        score_thr=0.0, max_per_img=30)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                # Some start at 0, and their convolutions fold to nothing.
                for value in (module.weight, module.running_var,
                              module.running_mean):
                    value.uniform_(0.5, 1.5)
    dataset = dict(pipeline=PIPELINE)
    return model.eval(), Config(
        dict(model=cfg, test_dataloader=dict(dataset=dataset)))


def batch(*sizes, channels=3):
    """Images of these heights and widths."""
    generator = torch.Generator().manual_seed(1)
    samples = []
    for height, width in sizes:
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width),
                ori_shape=(height, width),
                scale_factor=(1.0, 1.0)))
        pixels = torch.randint(
            256, (channels, height, width),
            generator=generator,
            dtype=torch.uint8)
        samples.append(dict(inputs=pixels, data_samples=sample))
    return pseudo_collate(samples)


def assert_same(model, runner, data, tolerance=1e-4):
    with torch.no_grad():
        expected = model.test_step(copy.deepcopy(data))
    found = runner.test_step(copy.deepcopy(data))
    assert len(expected) == len(found)
    for one, other in zip(expected, found):
        one, other = one.pred_instances, other.pred_instances
        assert len(one) == len(other) > 0
        # Ties may come in another order.
        assert torch.allclose(one.scores, other.scores, atol=tolerance)
        gap = (one.bboxes[:, None] - other.bboxes).abs().amax(2)
        gap[one.labels[:, None] != other.labels] = np.inf
        assert (gap.amin(1) < 1e-2).float().mean() > 0.9


@pytest.mark.parametrize('name', MAKERS)
@pytest.mark.parametrize('weights', ['int2', 'int4', 'int8', 'float'])
def test_detections_are_those_of_pytorch(tmp_path, name, weights):
    model, cfg = build(name)
    path = str(tmp_path / 'a.onnx')
    table = save_onnx(model, cfg, path, META, weights=weights, raw=True)
    runner = OnnxDetector(path, cfg.model)
    # Any size, and several images at once.
    for sizes in ([(96, 128)], [(128, 96), (64, 100)]):
        data = batch(*sizes)
        assert_same(model, runner, data)
        inputs = model.data_preprocessor(copy.deepcopy(data))['inputs']
        with torch.no_grad():
            maps = model.extract_feat(inputs)
            outputs = runner.dense_head.__class__.forward(
                model.bbox_head if name == 'retinanet' else model.rpn_head,
                maps)
        features, again = group_levels(runner.dense.outputs, [
            torch.from_numpy(x)
            for x in runner.dense.run(dict(image=inputs.numpy()))
        ])
        assert len(features) == (0 if name == 'retinanet' else len(maps))
        for output, other in zip(outputs, again):
            for level, other_level in zip(output, other):
                assert torch.allclose(level, other_level, atol=1e-4)
    for graph in table.graphs:
        assert graph.after == osp.getsize(graph.path)
    found = any(graph.integers.tensors for graph in table.graphs)
    assert found != (weights == 'float')
    opset = onnx.load(path).opset_import[0].version
    assert opset == dict(int2=25, int4=21, int8=17, float=17)[weights]


def test_every_ternary_layer_becomes_integers(tmp_path):
    for name in MAKERS:
        model, cfg = build(name)
        expected = [
            m for m in model.modules()
            if hasattr(m, 'ternary_weight') and m.weight.numel() >= 256
        ]
        table = save_onnx(
            model, cfg, str(tmp_path / f'{name}.onnx'), META, raw=True)
        found = [t for g in table.graphs for t in g.integers.tensors]
        assert sorted(t.weights for t in found) == sorted(m.weight.numel()
                                                          for m in expected)


def test_export_changes_nothing_in_the_model(tmp_path):
    model, cfg = build('retinanet')
    before = copy.deepcopy(model.state_dict())
    save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META)
    assert any(hasattr(m, 'ternary_weight') for m in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_two_scales_a_channel_stay_float_and_are_told(tmp_path):
    model, cfg = build('retinanet', scale='ttq')
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('weight_scale'):
                parameter[1] *= 0.5
    path = str(tmp_path / 'a.onnx')
    table = save_onnx(model, cfg, path, META, raw=True)
    assert 'stay float' in ' '.join(table.remarks())
    assert_same(model, OnnxDetector(path, cfg.model), batch((96, 128)))


def test_one_size_only(tmp_path):
    model, cfg = build('retinanet')
    path = str(tmp_path / 'a.onnx')
    save_onnx(model, cfg, path, META, input_size=(96, 128), raw=True)
    runner = OnnxDetector(path, cfg.model)
    assert_same(model, runner, batch((96, 128)))
    # Smaller ones are padded, larger ones refused.
    runner.test_step(batch((64, 64)))
    with pytest.raises(ValueError, match='takes images of'):
        runner.test_step(batch((128, 128)))


def test_boxes_end_where_the_image_does(tmp_path):
    """Whatever is filled up behind it."""
    model, cfg = build('retinanet')
    with torch.no_grad():
        model.bbox_head.retina_reg.bias.fill_(2)  # large boxes
    path = str(tmp_path / 'a.onnx')
    save_onnx(model, cfg, path, META, input_size=(256, 320))
    (found, ) = OnnxDetector(path, cfg.model).test_step(batch((100, 150)))
    boxes = found.pred_instances.bboxes
    assert boxes.amin() >= 0
    assert boxes[:, 2:].amax(0).tolist() == [150, 100]


def test_an_image_that_is_turned_is_made_smaller(tmp_path):
    model, cfg = build('retinanet')
    path = str(tmp_path / 'a.onnx')
    save_onnx(model, cfg, path, META, input_size=(256, 320))
    data = batch((320, 240))
    small = copy.deepcopy(data)
    small['inputs'] = [
        torch.nn.functional.interpolate(
            image[None].float(), (256, 192),
            mode='bilinear')[0].round().byte() for image in data['inputs']
    ]
    runner = OnnxDetector(path, cfg.model)
    (found, ), (expected, ) = runner.test_step(data), runner.test_step(small)
    found, expected = found.pred_instances, expected.pred_instances
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.bboxes, expected.bboxes / 0.8)


def test_a_size_that_the_pipelines_images_do_not_fit_in(tmp_path):
    model, cfg = build('retinanet')
    path = tmp_path / 'a.onnx'
    with pytest.raises(ValueError, match='up to 240 x 320 pixels'):
        save_onnx(model, cfg, str(path), META, input_size=(160, 160))
    assert not path.exists()


@pytest.mark.parametrize('size', [(100, 128), (0, 32), (32, ), (-32, 32)])
def test_bad_sizes(tmp_path, size):
    model, cfg = build('retinanet')
    with pytest.raises(ValueError, match='multiples of 32'):
        save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META, input_size=size)


def test_unknown_weights_and_models(tmp_path):
    model, cfg = build('retinanet')
    path = str(tmp_path / 'a.onnx')
    with pytest.raises(ValueError, match='weights must be one of'):
        save_onnx(model, cfg, path, META, weights='int3')
    with pytest.raises(ValueError, match='knows single-stage detectors'):
        save_onnx(model.backbone, cfg, path, META)


def test_existing_files_are_kept(tmp_path):
    model, cfg = build('faster_rcnn')
    (tmp_path / 'a.roi.onnx').write_text('precious')
    with pytest.raises(FileExistsError, match='a.roi.onnx'):
        save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META, raw=True)
    assert [p.name for p in tmp_path.iterdir()] == ['a.roi.onnx']


def test_a_folder_is_no_target(tmp_path):
    model, cfg = build('retinanet')
    (tmp_path / 'a.onnx').mkdir()
    with pytest.raises(IsADirectoryError, match='a.onnx. is a folder'):
        save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META, force=True)


def test_a_folder_that_takes_no_file(tmp_path, monkeypatch):
    model, cfg = build('retinanet')
    monkeypatch.setattr('os.access', lambda *args: False)
    with pytest.raises(PermissionError, match='cannot be written to'):
        save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META)


def test_float_activations_keep_no_layers(tmp_path):
    model, cfg = build('retinanet')
    with pytest.raises(ValueError, match="got keep=.'neck'. and activations"):
        save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META, keep=['neck'])


@pytest.mark.parametrize('activations, expected', [('float', 'float'),
                                                   ('int8', 'int8')])
def test_a_float_detector_has_no_2_bit_weights(tmp_path, activations,
                                               expected):
    _, cfg = build('retinanet')
    path = str(tmp_path / 'a.onnx')
    model = MODELS.build(float_config(cfg.model)).eval()
    pixels = batch((96, 128))['inputs']
    save_onnx(model, cfg, path, META, activations=activations, images=pixels)
    assert OnnxDetector(path, cfg.model).description['weights'] == expected


def test_other_files_are_refused(tmp_path):
    _, cfg = build('retinanet')
    path = tmp_path / 'a.onnx'
    with pytest.raises(FileNotFoundError):
        OnnxDetector(str(path), cfg.model)
    path.write_bytes(b'nothing')
    with pytest.raises(ValueError, match='cannot read'):
        OnnxDetector(str(path), cfg.model)
    value = onnx.helper.make_tensor_value_info('x', 1, [1])
    onnx.save(
        onnx.helper.make_model(
            onnx.helper.make_graph(
                [onnx.helper.make_node('Identity', ['x'], ['y'])], 'g',
                [value], [onnx.helper.make_tensor_value_info('y', 1, [1])]),
            ir_version=10,
            opset_imports=[onnx.helper.make_opsetid('', 17)]), path)
    with pytest.raises(ValueError, match='not exported by mmtern'):
        OnnxDetector(str(path), cfg.model)


def test_it_only_predicts(tmp_path):
    model, cfg = build('retinanet')
    save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META)
    runner = OnnxDetector(str(tmp_path / 'a.onnx'), cfg.model)
    with pytest.raises(ValueError, match='only predicts'):
        runner(torch.zeros(1, 3, 64, 64), [], mode='loss')


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match=r'pip install "mmtern\[export\]"'):
        check_onnx_packages()


DATA = osp.join(ROOT, 'data', 'bccd', 'annotations')


@pytest.mark.skipif(not osp.isdir(DATA), reason=f'needs {DATA}')
@pytest.mark.parametrize('name', MAKERS)
def test_the_tools_on_bccd(tmp_path, monkeypatch, name):
    """tools/export.py and tools/test_onnx.py give PyTorch's AP."""
    monkeypatch.chdir(ROOT)
    config = f'configs/tern_{name}_r18-lite_bccd.py'
    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    checkpoint, path = tmp_path / 'a.pth', tmp_path / 'a.onnx'
    torch.save(
        dict(
            meta=dict(dataset_meta=cfg.test_dataloader.dataset.metainfo),
            state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)
    _tool('export.py', config, checkpoint, path, '--raw')
    metrics = []
    test = Runner.test

    def kept(runner):
        metrics.append(test(runner))
        return metrics[-1]

    monkeypatch.setattr(Runner, 'test', kept)
    few = [
        '--cfg-options', 'test_dataloader.dataset.indices=4',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False', '--work-dir', tmp_path
    ]
    _tool('test_onnx.py', config, path, *few)
    _tool('test.py', config, checkpoint, *few)
    assert metrics[0].keys() == metrics[1].keys() and metrics[0]
    for key, value in metrics[0].items():
        assert abs(value - metrics[1][key]) <= 0.001
    # And image by image.
    model, _ = build_trained(cfg, str(checkpoint))
    runner = OnnxDetector(str(path), cfg.model)
    image = DATASETS.build(cfg.test_dataloader.dataset)[0]
    data = model.data_preprocessor(pseudo_collate([image]))['inputs']
    with torch.no_grad():
        maps = model.extract_feat(data)
        head = model.bbox_head if name == 'retinanet' else model.rpn_head
        outputs = head(maps)
    _, again = group_levels(runner.dense.outputs, [
        torch.from_numpy(x)
        for x in runner.dense.run(dict(image=data.numpy()))
    ])
    for output, other in zip(outputs, again):
        for level, other_level in zip(output, other):
            assert torch.allclose(level, other_level, atol=1e-4)


def _tool(name, *arguments) -> None:
    argv = sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        runpy.run_path(osp.join(ROOT, 'tools', name), run_name='__main__')
    finally:
        sys.argv = argv
