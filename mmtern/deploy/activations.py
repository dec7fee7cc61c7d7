"""8-bit activations: ranges measured on images, quantized nodes around every
convolution and linear layer.

onnxruntime and OpenVINO fuse ``DequantizeLinear -> Conv ->
QuantizeLinear`` into integer convolutions. Ranges and the places of these
nodes are onnxruntime's own (``onnxruntime.quantization``); the weights are
written by mmtern: codes -1, 0, +1 instead of the -127, 0, +127 that a generic
quantizer makes of them, because two products of 255 * 127 overflow the 16-bit
sums of processors without VNNI, and because they fit into two bits.
"""
import os.path as osp
import tempfile
from typing import TYPE_CHECKING, Collection, Dict, Iterable, List, Set, Tuple

import numpy as np

from ..files.sizes import Sizes, StoredTensor
from .weights import (code_nodes, insert_first, rows_are_outputs, stored,
                      ternary_rows)

if TYPE_CHECKING:
    import onnx

# What computes with weights, and what may lie between two of these.
LAYERS = ('Conv', 'Gemm')
_BETWEEN = ('Add', 'AveragePool', 'Clip', 'Concat', 'GlobalAveragePool',
            'LeakyRelu', 'MaxPool', 'Mul', 'Relu', 'Reshape', 'Flatten',
            'Resize', 'Sigmoid', 'Split', 'Transpose')
# The most that a 32-bit bias is allowed to be, far from what sums add to it.
_BIAS_LIMIT = 2**30


def layer_name(node: 'onnx.NodeProto') -> str:
    """The torch layer that a node was traced from, for the nth use of one
    layer with ``_n`` behind it: ``/backbone/layer1/layer1.0/conv1/Conv``
    comes from ``backbone.layer1.0.conv1``."""
    parts: List[str] = []
    for part in node.name.strip('/').split('/')[:-1]:
        if parts and part.startswith(f'{parts[-1]}.'):
            parts.pop()
        parts.append(part)
    return '.'.join(parts)


def quantize(model: 'onnx.ModelProto', kind: str,
             images: Iterable[Dict[str, np.ndarray]],
             keep: Set[str]) -> Tuple['onnx.ModelProto', Sizes]:
    """A model that computes with 8-bit activations and integer weights.

    Args:
        model (onnx.ModelProto): With float weights; left as it is.
        kind (str): Of ternary weights: 'int2', 'packed', 'int4' or 'int8'.
            Other
            weights get 8 bits a channel.
        images (Iterable[dict]): Inputs to measure activations with.
        keep (Set[str]): Names of nodes that stay float.

    Returns:
        tuple: The model, and the ternary weights that were rewritten.
    """
    from onnx import load, numpy_helper, save
    from onnxruntime.quantization import (CalibrationMethod, QuantFormat,
                                          QuantType, quantize_static)
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata
    nodes = _nodes_to_quantize(model, keep)
    if not nodes:
        raise ValueError('no layer is left to compute with 8 bits')
    with tempfile.TemporaryDirectory() as folder:
        source = osp.join(folder, 'float.onnx')
        target = osp.join(folder, 'quantized.onnx')
        # Its preprocessing is shape inference and folding, which the exporter
        # has done; the mark keeps it from warning.
        marked = type(model)()
        marked.CopyFrom(model)
        add_pre_process_metadata(marked)
        save(marked, source)
        del marked
        try:
            quantize_static(
                source,
                target,
                _Reader(images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*LAYERS, *_BETWEEN],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=nodes,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=dict(
                    # Made below: their scale is the weight's, which changes.
                    QuantizeBias=False))
        # onnxruntime's exceptions have no common base but this.
        except Exception as error:
            reason = ' '.join(str(error).split())[:300]
            raise ValueError('activations cannot be measured on these images: '
                             f'{reason}') from error
        quantized = load(target)
    weights = {
        value.name: numpy_helper.to_array(value)
        for value in model.graph.initializer
    }
    layers = {
        node.name: list(node.input)
        for node in model.graph.node if node.op_type in LAYERS
    }
    sizes = _rewrite(quantized, layers, weights, kind)
    _drop_unused(quantized)
    quantized.ir_version = model.ir_version
    return quantized, Sizes(sizes)


class _Reader:
    """Calibration data as onnxruntime asks for it."""

    def __init__(self, images: Iterable[Dict[str, np.ndarray]]) -> None:
        self.images = iter(images)

    def get_next(self):
        return next(self.images, None)


def _nodes_to_quantize(model: 'onnx.ModelProto', keep: Set[str]) -> List[str]:
    """The layers, and what lies between two of them."""
    nodes = model.graph.node
    initializers = {value.name for value in model.graph.initializer}
    wanted = [
        node for node in nodes
        if node.op_type in LAYERS and node.input[1] in initializers
        and rows_are_outputs(node) and node.name not in keep
    ]
    # Tensors from which a layer can be reached, and those that one reaches.
    before: Set[str] = set()
    after: Set[str] = set()
    for node in reversed(nodes):
        if node in wanted or before.intersection(node.output):
            before.update(node.input[:1] if node in wanted else node.input)
    for node in nodes:
        if node in wanted or after.intersection(node.input):
            after.update(node.output)
    between = [
        node.name for node in nodes if node.op_type in _BETWEEN
        and before.intersection(node.output) and after.intersection(node.input)
    ]
    # A Relu behind a layer is part of it, the last ones included.
    ends = {node.output[0] for node in wanted}
    last = [
        node.name for node in nodes
        if node.op_type in ('Relu', 'Clip') and node.input[0] in ends
    ]
    return sorted({node.name for node in wanted} | set(between) | set(last))


def _rewrite(quantized: 'onnx.ModelProto', layers: Dict[str, List[str]],
             weights: Dict[str, np.ndarray], kind: str) -> List[StoredTensor]:
    """Ternary codes in place of the quantizer's, biases of 32 bits."""
    from onnx import TensorProto, helper, numpy_helper
    graph = quantized.graph
    values = {value.name: value for value in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    first, sizes, done = [], [], {}

    def scale_of(node: 'onnx.NodeProto') -> np.ndarray:
        return numpy_helper.to_array(values[node.input[1]])

    for node in list(graph.node):
        if node.name not in layers:
            continue
        reader = made.get(node.input[1])
        if reader is None or reader.op_type != 'DequantizeLinear':
            continue
        name = layers[node.name][1]
        if name not in done:
            coded = ternary_rows(weights[name])
            if coded is not None:
                codes, scale = coded
                made_of = code_nodes(graph, name, codes, kind)
                first += made_of.nodes
                scales = numpy_helper.from_array(scale, f'{name}_step')
                # QGemm is only made with a zero point.
                zeros = numpy_helper.from_array(
                    np.zeros(len(scale), np.int8), f'{name}_zero')
                graph.initializer.extend([scales, zeros])
                values[scales.name] = scales
                source = made_of.name
                if kind in ('int2', 'int4'):
                    source = f'{name}_int8'
                    first.append(
                        helper.make_node(
                            'Cast', [made_of.name], [source],
                            to=TensorProto.INT8))
                del reader.input[:]
                reader.input.extend([source, scales.name, zeros.name])
                sizes.append(stored(name, codes, made_of.bytes, scale))
            done[name] = scale_of(reader)
        # onnxruntime quantizes biases of convolutions itself, since 1.21;
        # others, and older ones, want it done.
        if len(node.input) < 3 or (node.op_type == 'Conv'
                                   and kind in ('int2', 'packed')):
            continue
        bias_name = layers[node.name][2]  # shared ones have copies by now
        if bias_name not in weights:
            continue
        step = scale_of(made[node.input[0]]) * done[name]
        bias = np.rint(weights[bias_name] / step)
        if np.abs(bias).max() > _BIAS_LIMIT:
            continue
        # One a node: the steps of layers that share a bias differ.
        own = f'{node.name}_bias'
        parts = [
            numpy_helper.from_array(bias.astype(np.int32), f'{own}_codes'),
            numpy_helper.from_array(step.astype(np.float32), f'{own}_step')
        ]
        graph.initializer.extend(parts)
        first.append(
            helper.make_node(
                'DequantizeLinear', [part.name for part in parts], [own],
                name=f'{own}_dequantize',
                axis=0))
        node.input[2] = own
    insert_first(graph, first)
    return sizes


def _drop_unused(model: 'onnx.ModelProto') -> None:
    used = {name for node in model.graph.node for name in node.input}
    for value in list(model.graph.initializer):
        if value.name not in used:
            model.graph.initializer.remove(value)


def float_layers(data: bytes, keep: Collection[str]) -> List[str]:
    """Convolutions and linear layers that onnxruntime computes in float
    although they were meant not to.

    A convolution that misses a rule of the engine runs in float between
    conversions, slower than an unquantized one, and nothing says so. Here
    the graph that onnxruntime really runs is looked at.

    Args:
        data (bytes): A serialized model.
        keep (Collection[str]): Names of nodes that are meant to be float.
    """
    import onnx
    import onnxruntime
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = osp.join(folder, 'optimized.onnx')
        # The level above lays data out for this very processor.
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
        onnxruntime.InferenceSession(
            data, options, providers=['CPUExecutionProvider'])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    kinds = ('Conv', 'FusedConv', 'Gemm', 'FusedGemm')
    return [
        layer_name(node) or node.name for node in nodes
        if node.op_type in kinds and not any(name in node.name
                                             for name in keep)
    ]
