import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtern.deploy.weights import OPSETS, ternary_rows, use_integers

onnx = pytest.importorskip('onnx', '1.20')
onnxruntime = pytest.importorskip('onnxruntime', '1.24')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

laws = settings(
    max_examples=25, deadline=None, derandomize=True, database=None)


def ternary(rows: int, *rest: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    codes = generator.integers(-1, 2, (rows, *rest))
    scale = generator.normal(size=(rows, ) + (1, ) * len(rest))
    return (codes * scale).astype(np.float32)


def graph_of(weight: np.ndarray, kind: str) -> 'onnx.ModelProto':
    """One convolution or linear layer."""
    if weight.ndim == 4:
        node = helper.make_node('Conv', ['x', 'w'], ['y'])
        shape = [1, weight.shape[1], 6, 6]
        out = [1, len(weight), 4, 4]
    else:
        node = helper.make_node('Gemm', ['x', 'w'], ['y'], transB=1)
        shape = [2, weight.shape[1]]
        out = [2, len(weight)]
    graph = helper.make_graph(
        [node], 'g',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, out)],
        [numpy_helper.from_array(weight, 'w')])
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid('', OPSETS[kind])],
        ir_version=13 if kind == 'int2' else 10)


def run(model, value):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider'])
    return session.run(None, {'x': value})[0]


@pytest.mark.parametrize('kind, bits', [('int2', 2), ('int4', 4), ('int8', 8)])
@pytest.mark.parametrize('shape', [(8, 5, 3, 3), (7, 41), (9, 4, 3, 3)])
def test_a_layer_computes_as_before_in_fewer_bytes(kind, bits, shape):
    weight = ternary(*shape)
    model = graph_of(weight, kind)
    value = np.random.default_rng(1).normal(
        size=(1, shape[1], 6, 6) if len(shape) == 4 else (2, shape[1]))
    value = value.astype(np.float32)
    before = run(model, value)
    rewritten = use_integers(model, kind)
    onnx.checker.check_model(model, full_check=True)
    assert np.allclose(run(model, value), before, atol=1e-5)
    codes = -(-weight.size * bits // 8)
    (size, ) = rewritten.tensors
    assert size.weights == weight.size and size.before == weight.nbytes
    assert size.codes == codes and size.after == codes + 4 * shape[0]
    assert size.zeros == (weight == 0).sum()
    assert 'w' not in [i.name for i in model.graph.initializer]


@pytest.mark.parametrize('kind', ['int2', 'int4', 'int8'])
def test_the_stored_weights_are_exact(kind):
    weight = ternary(5, 60, seed=3)
    weight[2] = 0
    model = graph_of(weight, kind)
    use_integers(model, kind)
    # All one-hot inputs read the weight out.
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 60
    out = run(model, np.eye(60, dtype=np.float32))
    assert np.array_equal(out.T, weight)


@laws
@given(st.integers(1, 20), st.integers(16, 200), st.integers(0, 2**31))
def test_rows_are_recognized_after_a_norm_is_folded_in(rows, d, seed):
    weight = torch.from_numpy(ternary(rows, d, seed=seed))
    norm = torch.randn(rows, 1, generator=torch.Generator().manual_seed(seed))
    folded = (weight * norm).numpy()
    coded = ternary_rows(folded)
    if folded.size < 256:
        assert coded is None
        return
    codes, scale = coded
    assert set(np.unique(codes)) <= {-1, 0, 1}
    assert np.array_equal(codes * scale[:, None], folded)


def test_float_weights_are_left_alone():
    weight = ternary(8, 50)
    weight[3, 4] = 0.123
    model = graph_of(weight, 'int2')
    before = model.SerializeToString()
    assert not use_integers(model, 'int2').tensors
    assert model.SerializeToString() == before


def test_a_weight_with_columns_as_outputs_is_left_alone():
    model = graph_of(ternary(20, 20), 'int2')
    model.graph.node[0].attribute[0].i = 0
    assert not use_integers(model, 'int2').tensors


def test_a_weight_used_twice_is_stored_once():
    model = graph_of(ternary(20, 20), 'int2')
    again = model.graph.node.add()
    again.CopyFrom(model.graph.node[0])
    again.input[0], again.output[0] = 'y', 'z'
    assert len(use_integers(model, 'int2').tensors) == 1
    onnx.checker.check_model(model)
