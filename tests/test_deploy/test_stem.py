"""The first convolution over blocks of 2 x 2 pixels."""
import numpy as np
import pytest
import torch

from mmtern.deploy import save_onnx
from mmtern.deploy.stem import over_blocks
from mmtern.deploy.trace import Session
from .test_boxes import images, spread
from .test_export import META, build

onnx = pytest.importorskip('onnx', '1.20')
pytest.importorskip('onnxruntime', '1.24')


def one_convolution(kernel=3, channels=3, **attributes):
    """A graph of one convolution, of stride 2 unless told, with random
    weights; ``kernel`` high and one tap wider."""
    weight = torch.randn(5, channels, kernel, kernel + 1).numpy()
    node = onnx.helper.make_node('Conv', ['x', 'w'], ['y'], 'stem',
                                 **dict(dict(strides=[2, 2]), **attributes))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], 'graph',
        [value('x', 1, ['images', channels, 'height', 'width'])],
        [value('y', 1, None)], [onnx.numpy_helper.from_array(weight, 'w')])
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('kernel', [1, 2, 3, 6, 7])
@pytest.mark.parametrize('pads', [[0, 0, 0, 0], [3, 3, 3, 3], [1, 0, 2, 3]])
def test_outputs_are_the_same(kernel, pads, channels):
    model = one_convolution(kernel, channels, pads=pads)
    other = over_blocks(model, set())
    kinds = [node.op_type for node in other.graph.node]
    assert kinds == ['SpaceToDepth', 'Conv']
    fed = dict(x=torch.randn(2, channels, 10, 14).numpy())
    one, two = (
        Session(x.SerializeToString()).run(fed)[0] for x in (model, other))
    assert one.shape == two.shape
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('settings', [
    dict(channels=4),
    dict(strides=[1, 1]),
    dict(strides=[2, 1]),
    dict(dilations=[2, 2]),
])
def test_other_convolutions_stay(settings):
    model = one_convolution(**settings)
    assert over_blocks(model, set()) == model


def test_a_layer_to_keep_stays():
    model = one_convolution()
    assert over_blocks(model, {'stem'}) == model


@pytest.mark.parametrize('divisor, size, over', [
    (32, None, True),
    (1, None, False),
    (1, (96, 128), True),
])
def test_sides_must_be_even(tmp_path, divisor, size, over):
    model, cfg = build('retinanet')
    model.data_preprocessor.pad_size_divisor = divisor
    cfg.test_dataloader.dataset.pipeline[1].scale = (128, 96)
    path = tmp_path / 'a.onnx'
    save_onnx(
        spread(model),
        cfg,
        str(path),
        META,
        activations='int8',
        images=images(4),
        input_size=size)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count('SpaceToDepth') == over
