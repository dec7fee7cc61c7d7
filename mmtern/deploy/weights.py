"""Ternary weights of an ONNX graph as small integers and one scale a
channel."""
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Tuple

import numpy as np
import torch

from ..files.sizes import Sizes, StoredTensor
from ..ops import pack_codes

if TYPE_CHECKING:
    import onnx

WEIGHTS = ('int2', 'int4', 'int8', 'float')
# The opset that brought each type. 'packed' is 'int2' for graphs that must
# stay below opset 22, because no engine has that opset's RoiAlign: bytes of
# four weights, taken apart by bit operators, which engines fold, too.
OPSETS = dict(int2=25, packed=21, int4=21, int8=17, float=17)
# Smaller ones gain less than the additional nodes cost.
_MIN_SIZE = 256


def use_integers(model: 'onnx.ModelProto', kind: str) -> Sizes:
    """Put integers, ``Cast`` and ``Mul`` in place of every float initializer
    whose rows hold the values {-a, 0, +a}.

    Such rows are found by their values: they survive the exporter's folding
    of norms into weights, which multiplies each row by one factor; names do
    not. The change is lossless wherever it is made. Engines fold constants
    when they load a graph, ``Cast`` and ``Mul`` among them, so that it runs
    as fast as with float weights. (``DequantizeLinear`` in their place would
    be kept, for fusions with quantized activations, and unpack the weights
    in every run.)

    Args:
        model (onnx.ModelProto): Changed in place; its opset must be at least
            ``OPSETS[kind]``.
        kind (str): 'int2', 'packed', 'int4' or 'int8'.

    Returns:
        Sizes: Those of the weights that were rewritten.
    """
    from onnx import TensorProto, helper, numpy_helper
    graph = model.graph
    nodes, sizes = [], []
    used = {node.input[1] for node in graph.node if rows_are_outputs(node)}
    for initializer in list(graph.initializer):
        if initializer.name not in used:
            continue
        coded = ternary_rows(numpy_helper.to_array(initializer))
        if coded is None:
            continue
        codes, scale = coded
        name = initializer.name
        scales = numpy_helper.from_array(
            scale.reshape(-1, *[1] * (codes.ndim - 1)), f'{name}_scale')
        held = code_nodes(graph, name, codes, kind)
        nodes += held.nodes
        nodes += [
            helper.make_node(
                'Cast', [held.name], [f'{name}_float'], to=TensorProto.FLOAT),
            helper.make_node('Mul', [f'{name}_float', scales.name], [name])
        ]
        graph.initializer.remove(initializer)
        graph.initializer.append(scales)
        sizes.append(stored(name, codes, held.bytes, scale))
    insert_first(graph, nodes)
    return Sizes(sizes)


def rows_are_outputs(node: 'onnx.NodeProto') -> bool:
    """Return whether the second input of a node is a weight with one output
    channel a row."""
    if node.op_type == 'Gemm':
        return any(a.name == 'transB' and a.i == 1 for a in node.attribute)
    return node.op_type == 'Conv'


def ternary_rows(
        weight: np.ndarray) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Return codes (C_out, ...), int8, and scales (C_out, ), float32, whose
    product is exactly ``weight``, or None where there are none."""
    if weight.dtype != np.float32 or weight.ndim < 2:
        return None
    if weight.size < _MIN_SIZE:
        return None
    rows = np.abs(weight.reshape(len(weight), -1))
    scale = rows.max(axis=1)
    if not ((rows == 0) | (rows == scale[:, None])).all():
        return None
    # Any scale is right for a row of zeros. One like the others' keeps the
    # steps fine in which 8-bit engines store the biases.
    if (scale > 0).any():
        other = np.median(scale[scale > 0])
    else:
        other = 1
    scale = np.where(scale > 0, scale, other).astype(np.float32)
    return np.sign(weight).astype(np.int8), scale


class Codes(NamedTuple):
    """The codes of a weight in a graph.

    Attributes:
        name: Name of the tensor that holds them, of a type that ``Cast``
            takes.
        nodes: Nodes that compute this tensor from the stored one; empty
            where it is the stored one.
        bytes: Size of the stored one.
    """
    name: str
    nodes: List[Any]
    bytes: int


def code_nodes(graph: 'onnx.GraphProto', name: str, codes: np.ndarray,
               kind: str) -> Codes:
    """Add codes in {-1, 0, +1} to a graph, stored as the type ``kind``."""
    from onnx import TensorProto
    if kind == 'packed':
        return _packed(graph, name, codes)
    if kind == 'int2':
        data = pack_codes(torch.from_numpy(codes)).numpy()
    elif kind == 'int4':
        nibbles = codes.reshape(-1).view(np.uint8) & 0xF
        nibbles = np.append(nibbles, np.zeros(codes.size % 2, np.uint8))
        # The first of two in the lower half of the byte.
        data = nibbles[::2] | nibbles[1::2] << 4
    else:
        data = np.ascontiguousarray(codes)
    tensor = graph.initializer.add()
    tensor.CopyFrom(
        TensorProto(
            name=f'{name}_codes',
            data_type=getattr(TensorProto, kind.upper()),
            dims=codes.shape,
            raw_data=data.tobytes()))
    return Codes(tensor.name, [], data.nbytes)


def _packed(graph: 'onnx.GraphProto', name: str, codes: np.ndarray) -> Codes:
    """Store four codes a byte, with nodes that take them apart."""
    from onnx import TensorProto, helper, numpy_helper
    data = pack_codes(torch.from_numpy(codes)).numpy()
    shared = dict(
        code_shifts=np.array([[0, 2, 4, 6]], np.uint8),
        code_mask=np.array([3], np.uint8),
        # By the two bits of a code.
        code_values=np.array([0, 1, 0, -1], np.int8),
        code_start=np.array([0], np.int64))
    own = {
        f'{name}_codes': data.reshape(-1, 1),
        f'{name}_count': np.array([codes.size], np.int64),
        f'{name}_shape': np.array(codes.shape, np.int64)
    }
    known = {value.name for value in graph.initializer}
    graph.initializer.extend(
        numpy_helper.from_array(value, key) for key, value in {
            **shared,
            **own
        }.items() if key not in known)
    steps = [('BitShift', [f'{name}_codes',
                           'code_shifts'], dict(direction='RIGHT')),
             ('BitwiseAnd', ['', 'code_mask'], {}),
             ('Cast', [''], dict(to=TensorProto.INT32)),
             ('Gather', ['code_values', ''], {}),
             ('Flatten', [''], dict(axis=0)), ('Squeeze', [''], {}),
             ('Slice', ['', 'code_start', f'{name}_count'], {}),
             ('Reshape', ['', f'{name}_shape'], {})]
    nodes, last = [], ''
    for index, (kind, inputs, options) in enumerate(steps):
        output = f'{name}_unpacked{index}'
        nodes.append(
            helper.make_node(kind, [x or last for x in inputs], [output],
                             **options))
        last = output
    return Codes(last, nodes, data.nbytes)


def stored(name: str, codes: np.ndarray, size: int,
           scale: np.ndarray) -> StoredTensor:
    """Return the entry of the table of sizes for a weight whose codes take
    ``size`` bytes in the file."""
    return StoredTensor.ternary(name, torch.from_numpy(codes),
                                codes.size * scale.itemsize, size,
                                scale.nbytes)


def insert_first(graph: 'onnx.GraphProto',
                 nodes: List['onnx.NodeProto']) -> None:
    """Put nodes before all that use them."""
    for node in reversed(nodes):
        graph.node.insert(0, node)
