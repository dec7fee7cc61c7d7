"""Ternary weights of an ONNX graph as small integers and one scale a
channel."""
from typing import TYPE_CHECKING, List, Optional, Tuple

import numpy as np
import torch

from ..files.sizes import Sizes, StoredTensor
from ..ops import pack_codes

if TYPE_CHECKING:
    import onnx

WEIGHTS = ('int2', 'int4', 'int8', 'float')
# The opset that brought each type; the file's version goes with it.
OPSETS = dict(int2=25, int4=21, int8=17, float=17)
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
        kind (str): 'int2', 'int4' or 'int8'.

    Returns:
        Sizes: The weights that were rewritten.
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
        packed = code_tensor(f'{name}_codes', codes, kind)
        scales = numpy_helper.from_array(
            scale.reshape(-1, *[1] * (codes.ndim - 1)), f'{name}_scale')
        nodes += [
            helper.make_node(
                'Cast', [packed.name], [f'{name}_float'],
                name=f'{name}_cast',
                to=TensorProto.FLOAT),
            helper.make_node(
                'Mul', [f'{name}_float', scales.name], [name],
                name=f'{name}_mul')
        ]
        graph.initializer.remove(initializer)
        graph.initializer.extend([packed, scales])
        sizes.append(stored(name, codes, packed, scale))
    insert_first(graph, nodes)
    return Sizes(sizes)


def rows_are_outputs(node: 'onnx.NodeProto') -> bool:
    """Whether the second input holds one output channel a row."""
    if node.op_type == 'Gemm':
        return any(a.name == 'transB' and a.i == 1 for a in node.attribute)
    return node.op_type == 'Conv'


def ternary_rows(
        weight: np.ndarray) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Codes (C_out, ...), int8, and scales (C_out, ), float32, such that
    their product is exactly ``weight``; None if there are none."""
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


def code_tensor(name: str, codes: np.ndarray, kind: str) -> 'onnx.TensorProto':
    """Codes in {-1, 0, +1} as an initializer of the type ``kind``."""
    from onnx import TensorProto
    if kind == 'int2':
        data = pack_codes(torch.from_numpy(codes)).numpy()
    elif kind == 'int4':
        nibbles = codes.reshape(-1).view(np.uint8) & 0xF
        nibbles = np.append(nibbles, np.zeros(codes.size % 2, np.uint8))
        # The first of two in the lower half of the byte.
        data = nibbles[::2] | nibbles[1::2] << 4
    else:
        data = np.ascontiguousarray(codes)
    return TensorProto(
        name=name,
        data_type=getattr(TensorProto, kind.upper()),
        dims=codes.shape,
        raw_data=data.tobytes())


def stored(name: str, codes: np.ndarray, packed: 'onnx.TensorProto',
           scale: np.ndarray) -> StoredTensor:
    """What a weight takes in the file."""
    return StoredTensor.ternary(name, torch.from_numpy(codes),
                                codes.size * scale.itemsize,
                                len(packed.raw_data), scale.nbytes)


def insert_first(graph: 'onnx.GraphProto',
                 nodes: List['onnx.NodeProto']) -> None:
    """Put nodes before all that use them."""
    for node in reversed(nodes):
        graph.node.insert(0, node)
