"""Ternary weights of an ONNX graph as INT2 or INT4 and one scale a
channel."""
from typing import TYPE_CHECKING, Optional, Tuple

import numpy as np
import torch

from ..files.sizes import Sizes, StoredTensor
from ..ops import pack_codes

if TYPE_CHECKING:
    import onnx

WEIGHTS = ('int2', 'int4', 'float')
# The opset that brought each type to DequantizeLinear.
OPSETS = dict(int2=25, int4=21, float=17)
# Smaller ones gain less than the additional node costs.
_MIN_SIZE = 256


def use_integers(model: 'onnx.ModelProto', kind: str) -> Sizes:
    """Put integers and a ``DequantizeLinear`` (axis 0) in place of every
    float initializer whose rows hold the values {-a, 0, +a}.

    Such rows are found by their values: they survive the exporter's folding
    of norms into weights, which multiplies each row by one factor; names do
    not. The change is lossless wherever it is made.

    Args:
        model (onnx.ModelProto): Changed in place; its opset must be at least
            ``OPSETS[kind]``.
        kind (str): 'int2' or 'int4'.

    Returns:
        Sizes: The weights that were rewritten.
    """
    from onnx import helper, numpy_helper
    graph = model.graph
    nodes, sizes = [], []
    used = {
        node.input[1]
        for node in graph.node
        if node.op_type in ('Conv', 'Gemm') and _rows_are_outputs(node)
    }
    for initializer in list(graph.initializer):
        if initializer.name not in used:
            continue
        coded = ternary_rows(numpy_helper.to_array(initializer))
        if coded is None:
            continue
        codes, scale = coded
        name = initializer.name
        packed = _tensor(f'{name}_codes', codes, kind)
        scales = numpy_helper.from_array(scale, f'{name}_scale')
        nodes.append(
            helper.make_node(
                'DequantizeLinear', [packed.name, scales.name], [name],
                name=f'{name}_dequantize',
                axis=0))
        graph.initializer.remove(initializer)
        graph.initializer.extend([packed, scales])
        sizes.append(
            StoredTensor.ternary(name, torch.from_numpy(codes),
                                 codes.size * scale.itemsize,
                                 len(packed.raw_data), scale.nbytes))
    # Before all that uses them.
    for node in reversed(nodes):
        graph.node.insert(0, node)
    return Sizes(sizes)


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
    # A scale of 0 for rows of zeros would be legal, but 1 is as good.
    return np.sign(weight).astype(np.int8), np.where(scale > 0, scale,
                                                     1).astype(np.float32)


def _rows_are_outputs(node: 'onnx.NodeProto') -> bool:
    if node.op_type == 'Conv':
        return True
    return any(a.name == 'transB' and a.i == 1 for a in node.attribute)


def _tensor(name: str, codes: np.ndarray, kind: str) -> 'onnx.TensorProto':
    from onnx import TensorProto
    if kind == 'int2':
        data_type = TensorProto.INT2
        packed = pack_codes(torch.from_numpy(codes)).numpy()
    else:
        data_type = TensorProto.INT4
        nibbles = codes.reshape(-1).view(np.uint8) & 0xF
        nibbles = np.append(nibbles, np.zeros(codes.size % 2, np.uint8))
        # The first of two in the lower half of the byte.
        packed = nibbles[::2] | nibbles[1::2] << 4
    return TensorProto(
        name=name,
        data_type=data_type,
        dims=codes.shape,
        raw_data=packed.tobytes())
