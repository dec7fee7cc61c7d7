"""A graph puts out the boxes that mmdet does."""
import json

import numpy as np
import pytest
import torch
from mmdet.models import DoubleHeadRoIHead, DynamicRoIHead, GridRoIHead
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config

from mmtern import freeze
from mmtern.deploy import OnnxDetector, save_onnx
from mmtern.deploy.boxes import boxes_of
from mmtern.deploy.export import PIXELS
from mmtern.deploy.rois import RoIFeatures
from tests.small_detectors import build as build_small
from tests.small_detectors import small_fcos, ternary_twin
from .test_export import META, PIPELINE, assert_same, batch, build

onnx = pytest.importorskip('onnx', '1.20')
onnxruntime = pytest.importorskip('onnxruntime', '1.24')


def spread(model, channels=3):
    """Scores of all sizes, without ties."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.zero_()  # or nothing passes the Relus
    head = getattr(model, 'roi_head', model).bbox_head
    layers = [getattr(head, 'retina_cls', None), getattr(head, 'fc_cls', None)]
    if hasattr(model, 'rpn_head'):
        layers.append(model.rpn_head.rpn_cls)
    for layer in filter(None, layers):
        layer.weight.data = torch.randn(
            layer.weight.shape, generator=generator)
        layer.bias.data.zero_()
        seen = []
        hook = layer.register_forward_hook(
            lambda _, inputs, output: seen.append(output.flatten()))
        with torch.no_grad():
            model.test_step(batch((96, 128), channels=channels))
        hook.remove()
        layer.weight.data /= torch.cat(seen).std()
    return model


def images(count):
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randint(
            256, (3, 96, 128), generator=generator, dtype=torch.uint8)
        for _ in range(count)
    ]


def session(path):
    return onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider'])


@pytest.mark.parametrize('name', ['retinanet', 'faster_rcnn'])
@pytest.mark.parametrize('weights', ['int2', 'int8'])
def test_boxes_are_those_of_mmdet(tmp_path, name, weights):
    model, cfg = build(name)
    spread(model)
    path = str(tmp_path / 'a.onnx')
    save_onnx(model, cfg, path, META, weights=weights)
    assert [p.name for p in tmp_path.iterdir()] == ['a.onnx']
    runner = OnnxDetector(path, cfg.model)
    for sizes in ([(96, 128)], [(101, 75)], [(64, 100), (64, 100)]):
        assert_same(model, runner, batch(*sizes))


def test_a_roi_head_that_changes_training_only(tmp_path):
    model, cfg = build('faster_rcnn')
    model.roi_head.__class__ = DynamicRoIHead
    path = str(tmp_path / 'a.onnx')
    save_onnx(spread(model), cfg, path, META)
    assert_same(model, OnnxDetector(path, cfg.model), batch((96, 128)))


@pytest.mark.parametrize('kind', [GridRoIHead, DoubleHeadRoIHead])
def test_a_roi_head_that_detects_otherwise(tmp_path, kind):
    model, cfg = build('faster_rcnn')
    model.roi_head.__class__ = kind
    with pytest.raises(ValueError, match=f'FasterRCNN with {kind.__name__}'):
        save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META)


@pytest.mark.parametrize('name', ['retinanet', 'faster_rcnn'])
def test_several_images_at_once(tmp_path, name):
    model, cfg = build(name)
    spread(model)
    path = tmp_path / 'a.onnx'
    save_onnx(model, cfg, str(path), META)
    run = session(path)
    both = torch.stack(images(2)).numpy()
    boxes, scores, labels = run.run(None, dict(image=both))
    for index in range(2):
        alone = run.run(None, dict(image=both[index:index + 1]))
        real = labels[index] >= 0
        assert real.sum() == alone[0].shape[1] > 0
        assert np.allclose(boxes[index][real], alone[0][0], atol=1e-3)
        assert np.allclose(scores[index][real], alone[1][0], atol=1e-5)
        assert np.array_equal(labels[index][real], alone[2][0])
        assert not scores[index][~real].any()


@pytest.mark.parametrize('name', ['retinanet', 'faster_rcnn'])
def test_integers_that_float32_holds_as_well(tmp_path, name):
    """OpenVINO computes with 64-bit integers as with floats of 32 bits."""
    model, cfg = build(name)
    path = tmp_path / 'a.onnx'
    save_onnx(model, cfg, str(path), META)
    graph = onnx.load(path).graph
    values = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node if node.op_type == 'Constant'
    }
    numbers = [
        values[name] for node in graph.node
        if node.op_type in ('Add', 'Sub', 'Mul', 'Div', 'Mod')
        for name in node.input
        if name in values and values[name].dtype == np.int64
    ]
    assert numbers and max(np.abs(x).max() for x in numbers) < 2**24


@pytest.mark.parametrize('name', ['retinanet', 'faster_rcnn'])
def test_float_images(tmp_path, name):
    """Whole numbers give the boxes that bytes give; others are not
    rounded."""
    model, cfg = build(name)
    spread(model)
    paths = {kind: str(tmp_path / f'{kind}.onnx') for kind in PIXELS}
    for kind, path in paths.items():
        save_onnx(model, cfg, path, META, pixels=kind)
    runner = OnnxDetector(paths['float32'], cfg.model)
    assert_same(model, runner, batch((96, 128)))
    image = images(1)[0][None].numpy()
    found = [
        session(path).run(None, dict(image=image.astype(kind)))
        for kind, path in paths.items()
    ]
    for one, other in zip(*found):
        assert np.array_equal(one, other)
    between = session(paths['float32']).run(
        None, dict(image=image.astype('float32') + 0.25))
    assert not np.array_equal(between[1], found[0][1])


def test_eight_bits_of_float_images(tmp_path):
    model, cfg = build('retinanet')
    spread(model)
    found = []
    for kind in PIXELS:
        path = str(tmp_path / f'{kind}.onnx')
        save_onnx(
            model,
            cfg,
            path,
            META,
            activations='int8',
            images=images(4),
            pixels=kind)
        image = images(1)[0][None].numpy().astype(kind)
        found.append(session(path).run(None, dict(image=image)))
    for one, other in zip(*found):
        assert np.array_equal(one, other)


def test_a_neck_that_doubles_maps_limits_the_sides(tmp_path):
    """Without padding of its own a YOLOX takes no odd sides, in mmdet
    either."""
    cfg = get_config('mmdet::yolox/yolox_nano_8xb8-300e_coco.py')
    cfg.model.update(type='TernDetector', wrapped='YOLOX')
    cfg.model.backbone.widen_factor = 0.125
    cfg.model.neck.update(
        in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1)
    cfg.model.bbox_head.update(num_classes=3, in_channels=16, feat_channels=16)
    cfg.test_dataloader.dataset.pipeline = PIPELINE
    remarks = []
    for divisor in (32, 1):
        cfg.model.data_preprocessor.pad_size_divisor = divisor
        model = build_small(cfg.model).eval()
        table = save_onnx(model, cfg, str(tmp_path / f'{divisor}.onnx'), META)
        remarks.append(' '.join(table.remarks()))
    assert 'the graph takes' not in remarks[0]
    assert 'sides that are multiples of 32 only' in remarks[1]


@pytest.mark.parametrize('channels', [1, 4])
def test_images_that_are_not_of_three_channels(tmp_path, channels):
    model, cfg = build('retinanet')
    # mmengine knows means of one and of three channels.
    normalize = dict(mean=[120.0], std=[60.0]) if channels == 1 else {}
    cfg.model.backbone.in_channels = channels
    cfg.model.data_preprocessor = dict(
        type='DetDataPreprocessor', pad_size_divisor=32, **normalize)
    model.data_preprocessor = MODELS.build(cfg.model.data_preprocessor)
    first = model.backbone.conv1
    model.backbone.conv1 = torch.nn.Conv2d(
        channels, first.out_channels, 7, 2, 3, bias=False)
    torch.nn.init.normal_(
        model.backbone.conv1.weight, std=0.1 if channels == 1 else 1e-3)
    spread(model, channels)
    path = str(tmp_path / 'a.onnx')
    save_onnx(model, cfg, path, META)
    runner = OnnxDetector(path, cfg.model)
    assert runner.description['channels'] == channels
    assert_same(model, runner, batch((96, 128), channels=channels))


def test_nothing_found(tmp_path):
    model, cfg = build('retinanet')
    model.bbox_head.test_cfg.score_thr = 0.99
    path = tmp_path / 'a.onnx'
    save_onnx(model, cfg, str(path), META)
    for count in (1, 2):
        image = torch.stack(images(count)).numpy()
        boxes, scores, labels = session(path).run(None, dict(image=image))
        assert boxes.shape == (count, 0, 4)
        assert scores.shape == labels.shape == (count, 0)


def test_no_region_at_all(tmp_path):
    model, cfg = build('faster_rcnn')
    model.rpn_head.test_cfg.min_bbox_size = 90  # no image below has so large
    path = tmp_path / 'a.onnx'
    save_onnx(spread(model), cfg, str(path), META)
    for count in (1, 2):
        image = np.zeros((count, 3, 64, 64), np.uint8)
        boxes, scores, labels = session(path).run(None, dict(image=image))
        assert not (labels >= 0).any()


def test_regions_and_their_features_are_compared(tmp_path, monkeypatch):
    model, cfg = build('faster_rcnn')
    right = RoIFeatures.forward
    for output, message in (('features', 'features of regions differ'),
                            ('regions', "differ from the graph's regions")):

        def wrong(self, *args):
            found = list(right(self, *args))
            if torch.onnx.is_in_onnx_export():
                found[output == 'regions'] = found[output == 'regions'] * 1.5
            return tuple(found)

        monkeypatch.setattr(RoIFeatures, 'forward', wrong)
        with pytest.raises(ValueError, match=message):
            save_onnx(spread(model), cfg, str(tmp_path / 'a.onnx'), META)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['retinanet', 'faster_rcnn'])
@pytest.mark.parametrize('most', [-1, None])
def test_a_number_of_boxes_is_wanted(tmp_path, name, most):
    model, cfg = build(name)
    heads = [
        getattr(model, part) for part in ('bbox_head', 'rpn_head', 'roi_head')
        if hasattr(model, part)
    ]
    for test_cfg in (head.test_cfg for head in heads):
        before, test_cfg.max_per_img = test_cfg.max_per_img, most
        with pytest.raises(ValueError, match=f'max_per_img={most}, which'):
            save_onnx(model, cfg, str(tmp_path / 'a.onnx'), META)
        test_cfg.max_per_img = before


@pytest.mark.parametrize('name', ['retinanet', 'faster_rcnn'])
@pytest.mark.parametrize('weights', ['int2', 'int4', 'int8'])
def test_eight_bit_activations(tmp_path, name, weights):
    """All layers compute in 8 bits, scores stay near."""
    model, cfg = build(name)
    path = tmp_path / 'a.onnx'
    save_onnx(
        model,
        cfg,
        str(path),
        META,
        weights=weights,
        activations='int8',
        images=images(4))
    again = tmp_path / 'b.onnx'
    save_onnx(
        model,
        cfg,
        str(again),
        META,
        weights=weights,
        activations='int8',
        images=images(4))
    assert path.read_bytes() == again.read_bytes()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / 'optimized.onnx')
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count('QLinearConv') > 20
    assert not {'Conv', 'FusedConv', 'Gemm'} & set(kinds)
    # Nothing becomes float only to be asked for its shape.
    made = {name: node.op_type for node in nodes for name in node.output}
    assert 'DequantizeLinear' not in [
        made.get(node.input[0]) for node in nodes if node.op_type == 'Shape'
    ]


@pytest.mark.parametrize('activations, expected', [('float', 0), ('int8', 1)])
def test_samples_of_regions(tmp_path, activations, expected):
    """With 8 bits RoIAlign is cheaper than mmdet's, and the file says so."""
    model, cfg = build('faster_rcnn')
    path = str(tmp_path / 'a.onnx')
    table = save_onnx(
        model, cfg, path, META, activations=activations, images=images(2))
    file = onnx.load(path)
    samples = [
        onnx.helper.get_node_attr_value(node, 'sampling_ratio')
        for node in file.graph.node if node.op_type == 'RoiAlign'
    ]
    assert samples == [expected] * 4
    assert OnnxDetector(path, cfg.model).description['roi_samples'] == samples
    assert ('samples a bin' in ' '.join(table.remarks())) == (expected == 1)


def test_layers_that_are_kept(tmp_path):
    model, cfg = build('retinanet')
    path = str(tmp_path / 'a.onnx')
    table = save_onnx(
        model,
        cfg,
        path,
        META,
        activations='int8',
        images=images(2),
        keep=['retina_cls'])
    assert 'compute in float: 1' in ' '.join(table.remarks())
    with pytest.raises(ValueError, match='matches no layer'):
        save_onnx(
            model,
            cfg,
            path,
            META,
            activations='int8',
            images=images(2),
            keep=['nothing'],
            force=True)


def test_points_and_group_norms(tmp_path):
    cfg = ternary_twin(small_fcos())
    model = build_small(cfg).eval()
    path = str(tmp_path / 'a.onnx')
    whole = Config(
        dict(model=cfg, test_dataloader=dict(dataset=dict(pipeline=PIPELINE))))
    save_onnx(model, whole, path, META)
    found = session(path).run(None, dict(image=torch.stack(images(1)).numpy()))
    assert found[0].shape[0] == 1


def small_others():
    """mmdet's SSDLite, YOLOv3 and FoveaBox with few channels, and the numbers
    of channels that their heads put out in each level."""
    ssd = get_config(
        'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py').model
    ssd.backbone.widen_factor = 0.25
    ssd.neck.update(in_channels=(24, 1280), out_channels=(24, 1280, *[16] * 4))
    ssd.bbox_head.in_channels = ssd.neck.out_channels
    yolo = get_config('mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py')
    yolo = yolo.model
    yolo.backbone.widen_factor = 0.25
    yolo.neck.update(in_channels=[80, 24, 8], out_channels=[16] * 3)
    yolo.bbox_head.update(in_channels=[16] * 3, out_channels=[16] * 3)
    yolo.test_cfg.conf_thr = 0.5
    fovea = get_config('mmdet::foveabox/fovea_r50_fpn_4xb4-1x_coco.py').model
    fovea.backbone.update(depth=18, base_channels=8, init_cfg=None)
    fovea.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    fovea.bbox_head.update(in_channels=16, feat_channels=16)
    for model in (ssd, yolo, fovea):
        model.bbox_head.num_classes = 3
        model.test_cfg.update(nms_pre=100, score_thr=0.4)
    return dict(
        ssd=(ssd, [(6 * 4, 6 * 4)] * 6),
        yolo=(yolo, [(3 * 8, )] * 3),
        fovea=(fovea, [(3, 4)] * 5))


@pytest.mark.parametrize('name', ['ssd', 'yolo', 'fovea'])
def test_heads_with_a_decoding_of_their_own(tmp_path, name):
    cfg, channels = small_others()[name]
    cfg = ternary_twin(cfg)
    model = build_small(cfg).eval()
    whole = Config(
        dict(model=cfg, test_dataloader=dict(dataset=dict(pipeline=PIPELINE))))
    # Compares its graph with the modules, and these with mmdet without a
    # threshold.
    save_onnx(model, whole, str(tmp_path / 'a.onnx'), META)
    head = model.bbox_head
    if name == 'ssd':
        head.loss_cls = None  # mmdet 3.3 decodes no boxes without
    generator = torch.Generator().manual_seed(0)
    sides = [12, 6, 4, 3, 2, 1]
    levels = zip(*[[
        torch.randn(2, count, side, side, generator=generator)
        for count in level
    ] for side, level in zip(sides, channels)])
    outputs = [list(output) for output in levels]
    boxes, scores, labels = boxes_of(head, head.test_cfg)(torch.zeros(
        2, 3, 192, 160), outputs)
    expected = head.predict_by_feat(
        *outputs, batch_img_metas=[dict(img_shape=(192, 160))] * 2)
    for index, one in enumerate(expected):
        real = labels[index] >= 0
        assert len(one) == real.sum() > 10
        assert torch.allclose(one.scores, scores[index][real], atol=1e-5)
        assert torch.allclose(one.bboxes, boxes[index][real], atol=1e-3)
        assert torch.equal(one.labels, labels[index][real])


def test_a_detector_for_one_size_gets_that_of_the_pipeline(tmp_path):
    """Padding it to a multiple of 32 would give it another image."""
    cfg, _ = small_others()['ssd']
    # Smaller images leave nothing for the last levels.
    cfg.neck.update(level_strides=(2, 2, 1, 1), level_paddings=(1, 1, 0, 1))
    cfg = ternary_twin(cfg)
    resize = dict(type='Resize', scale=(300, 300), keep_ratio=False)
    pipeline = [PIPELINE[0], resize, PIPELINE[2]]
    whole = Config(
        dict(model=cfg, test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    table = save_onnx(
        build_small(cfg).eval(), whole, str(tmp_path / 'a.onnx'), META)
    assert 'images of 300 x 300 pixels' in ' '.join(table.remarks())


def test_the_file_describes_itself(tmp_path):
    model, cfg = build('retinanet')
    path = str(tmp_path / 'a.onnx')
    save_onnx(model, cfg, path, META)
    facts = json.loads(
        session(path).get_modelmeta().custom_metadata_map['mmtern'])
    assert facts['classes'] == ['a', 'b', 'c']
    assert facts['resize'] == dict(mode='edges', scale=[320, 240])
    assert facts['form'] == 'boxes' and facts['channels'] == 3


@pytest.mark.parametrize('meta, message', [
    (dict(classes='abc'), 'list or tuple of names'),
    (dict(classes=('a', 'b')), 'names 2 classes'),
])
def test_bad_classes(tmp_path, meta, message):
    model, cfg = build('retinanet')
    with pytest.raises(ValueError, match=message):
        save_onnx(model, cfg, str(tmp_path / 'a.onnx'), meta)
    assert not list(tmp_path.iterdir())


def test_what_is_not_known_is_refused(tmp_path):
    model, cfg = build('retinanet')
    path = str(tmp_path / 'a.onnx')
    with pytest.raises(ValueError, match='ends in .onnx'):
        save_onnx(model, cfg, str(tmp_path / 'a.bin'), META)
    with pytest.raises(ValueError, match='measured on images'):
        save_onnx(model, cfg, path, META, activations='int8')
    with pytest.raises(ValueError, match='need integer weights'):
        save_onnx(model, cfg, path, META, weights='float', activations='int8')
    with pytest.raises(ValueError, match='pixels must be one of'):
        save_onnx(model, cfg, path, META, pixels='float16')
    with pytest.raises(ValueError, match='takes normalized images'):
        save_onnx(model, cfg, path, META, pixels='float32', raw=True)
    model.bbox_head.test_cfg.nms = dict(type='soft_nms', iou_threshold=0.5)
    with pytest.raises(ValueError, match='soft_nms.*--raw'):
        save_onnx(model, cfg, path, META)
    model, cfg = build('retinanet')
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='RandomFlip'))
    with pytest.raises(ValueError, match='RandomFlip'):
        save_onnx(model, cfg, path, META)
    assert not list(tmp_path.iterdir())


def test_a_frozen_model_is_taken_too(tmp_path):
    model, cfg = build('retinanet')
    save_onnx(freeze(model), cfg, str(tmp_path / 'a.onnx'), META)
