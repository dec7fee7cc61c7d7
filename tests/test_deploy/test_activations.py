"""8-bit activations: where they are put, and when they are refused."""
import numpy as np
import pytest
import torch

from mmtern.deploy import save_onnx
from mmtern.deploy.activations import quantize, spoiled
from .test_boxes import images, spread
from .test_export import META, build

onnx = pytest.importorskip('onnx', '1.20')
pytest.importorskip('onnxruntime', '1.24')


def test_boxes_found_again_are_told(tmp_path):
    model, cfg = build('retinanet')
    table = save_onnx(
        spread(model),
        cfg,
        str(tmp_path / 'a.onnx'),
        META,
        activations='int8',
        images=images(4))
    assert 'are found again' in ' '.join(table.remarks())


def save(model, cfg, path, seen):
    return save_onnx(
        model, cfg, str(path), META, activations='int8',
        images=seen).remarks()


def test_layers_that_need_it_stay_float(tmp_path):
    """One channel that is huge leaves no steps for the others."""
    model, cfg = build('retinanet')
    spread(model)
    conv = model.bbox_head.cls_convs[0].conv
    with torch.no_grad():
        model.bbox_head.retina_cls.weight[:, 0] = 0
        conv.weight[0] = conv.weight.abs().max()
        conv.bias[0] = 1e5
    remarks = ' '.join(save(model, cfg, tmp_path / 'a.onnx', images(4)))
    assert 'stay float: bbox_head.cls_convs.0.conv, ' in remarks
    assert 'bbox_head.retina_cls' in remarks


def test_a_detector_that_loses_its_boxes_is_refused(tmp_path):
    """Dim images, of which the ranges of a last, bright one leave nothing."""
    model, cfg = build('retinanet')
    spread(model)
    dim = [(127 + image // 128).to(torch.uint8) for image in images(16)]
    with pytest.raises(ValueError, match='8 bits are too few.*--keep'):
        save(model, cfg, tmp_path / 'a.onnx', dim + images(1))
    assert not list(tmp_path.iterdir())


def chain(second, large=1000):
    """A channel of 1000, or ``large``, and one of 1 from a convolution,
    through a Relu to the second, to a third."""

    def weight(name, value):
        return onnx.numpy_helper.from_array(np.float32(value), name)

    def conv(name, source, target, **attributes):
        return onnx.helper.make_node(
            'Conv', [source, name], [target], name=name, **attributes)

    group = 2 if second.shape[1] == 1 else 1
    graph = onnx.helper.make_graph([
        conv('a', 'image', 'b'),
        onnx.helper.make_node('Relu', ['b'], ['c'], name='relu'),
        conv('second', 'c', 'd', group=group),
        conv('e', 'd', 'f')
    ], 'chain', [
        onnx.helper.make_tensor_value_info('image', onnx.TensorProto.FLOAT,
                                           [1, 2, 8, 8])
    ], [onnx.helper.make_tensor_value_info('f', onnx.TensorProto.FLOAT, None)
        ], [
            weight('a',
                   np.diag([large, 1])[..., None, None]),
            weight('second', second[..., None, None]),
            weight('e', np.ones((1, 2, 1, 1)))
        ])
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=10)


@pytest.mark.parametrize(
    'second, expected',
    [
        # A depthwise layer that evens the channels out loses the small one.
        (np.array([[1 / 1000], [1]]), {'a', 'second'}),
        # One that leaves them as they are, or sums over them, does not.
        (np.array([[1], [1]]), set()),
        (np.array([[1, 1], [1, -1]]), set()),
    ])
def test_layers_that_8_bits_would_spoil(second, expected):
    generator = np.random.default_rng(0)
    images = [
        dict(image=generator.normal(size=(1, 2, 8, 8)).astype(np.float32))
        for _ in range(2)
    ]
    model = chain(second)
    assert spoiled(model, images, set()) == expected
    assert not spoiled(model, images, {'second'})
    # And the tensors between stay float with them.
    model, _ = quantize(model, 'int8', images, expected)
    rounded = {
        node.input[0]
        for node in model.graph.node if node.op_type == 'QuantizeLinear'
    }
    assert ('c' in rounded) == (not expected)
    assert 'd' in rounded


@pytest.mark.parametrize('large, expected', [(8, set()),
                                             (16, {'a', 'second'})])
def test_how_much_is_spoiled(large, expected):
    """Beside a channel that is 8 times as large a small one keeps 37 decibels,
    and 30 beside one that is 16 times as large."""
    generator = np.random.default_rng(0)
    images = [
        dict(image=generator.normal(size=(1, 2, 8, 8)).astype(np.float32))
        for _ in range(2)
    ]
    second = np.array([[1 / large], [1]])
    assert spoiled(chain(second, large), images, set()) == expected
