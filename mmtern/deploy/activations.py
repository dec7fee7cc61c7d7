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
from .trace import Session
from .weights import (code_nodes, insert_first, rows_are_outputs, stored,
                      ternary_rows, use_integers)

if TYPE_CHECKING:
    import onnx

# What computes with weights, and what may lie between two of these.
LAYERS = ('Conv', 'Gemm')
_BETWEEN = ('Add', 'AveragePool', 'Clip', 'Concat', 'GlobalAveragePool',
            'LeakyRelu', 'MaxPool', 'Mul', 'Relu', 'Reshape', 'Flatten',
            'Resize', 'Sigmoid', 'Split', 'Transpose')
# A layer's output keeps this much of its signal, in decibels, when its input
# is rounded to 8 bits, or the layer stays float. All layers of a RetinaNet-R18
# keep 33 and more, those of a Faster R-CNN's RPN 25 to 33 at no cost in AP.
LEAST_SIGNAL = 25.0
# The same in a graph with depthwise layers, where nothing sums over a channel
# that is small beside the range of all. In YOLOX-Nano some keep 9, and 25
# costs up to 1.2 AP (docs/deployment.md).
LEAST_SIGNAL_DEPTHWISE = 33.0
# The most that a 32-bit bias is allowed to be, far from what sums add to it.
_BIAS_LIMIT = 2**30


def layer_name(node: 'onnx.NodeProto') -> str:
    """Return the name of the torch layer that a node was traced from, with
    ``_n`` behind it for the nth use of one layer:
    ``/backbone/layer1/layer1.0/conv1/Conv`` comes from
    ``backbone.layer1.0.conv1``."""
    parts: List[str] = []
    for part in node.name.strip('/').split('/')[:-1]:
        if parts and part.startswith(f'{parts[-1]}.'):
            parts.pop()
        parts.append(part)
    return '.'.join(parts)


def quantize(model: 'onnx.ModelProto', kind: str,
             images: Iterable[Dict[str, np.ndarray]],
             keep: Set[str]) -> Tuple['onnx.ModelProto', Sizes]:
    """Return a model that computes with 8-bit activations and integer
    weights.

    Args:
        model (onnx.ModelProto): With float weights; left as it is.
        kind (str): Type of the ternary weights: 'int2', 'packed', 'int4' or
            'int8'. Other weights get 8 bits a channel.
        images (Iterable[dict]): Inputs to measure activations with.
        keep (Set[str]): Names of nodes that stay float.

    Returns:
        tuple: The model, and the sizes of the ternary weights in it.

    Raises:
        ValueError: If no layer is left, or onnxruntime fails on the images.
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
                Reader(images),
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
    # Of layers that stay float.
    sizes += use_integers(quantized, kind).tensors
    quantized.ir_version = model.ir_version
    return quantized, Sizes(sizes)


def spoiled(model: 'onnx.ModelProto', images: Iterable[Dict[str, np.ndarray]],
            keep: Set[str]) -> Set[str]:
    """Return the layers whose inputs 8 bits would spoil, and those that
    share such an input or put it out.

    Each layer is run alone, on its float input and on the same rounded to
    256 steps over the range seen. Where the outputs' signal (variance in each
    channel) is less than ``LEAST_SIGNAL`` above the error, or than
    ``LEAST_SIGNAL_DEPTHWISE`` in a graph with depthwise layers, the input has
    to stay float: the layer does, with those that put this input out and
    those that read it, too.

    Args:
        model (onnx.ModelProto): With float weights; left as it is.
        images (Iterable[dict]): Inputs of the model, by name.
        keep (Set[str]): Names of nodes that stay float anyhow.

    Returns:
        Set[str]: Their names.
    """
    layers = [node for node in _layers(model.graph) if node.name not in keep]
    runs = _InputsOf(model, layers)
    ranges: Dict[str, Tuple[float, float]] = {}
    images = list(images)
    for image in images:
        for name, value in runs(image).items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, float(value.min())),
                            max(high, float(value.max())))
    alone = {node.name: _alone(model, node) for node in layers}
    signal = dict.fromkeys(alone, 0.0)
    noise = dict.fromkeys(alone, 0.0)
    for image in images:
        values = runs(image)
        rounded = {
            name: _rounded(value, *ranges[name])
            for name, value in values.items()
        }
        for node in layers:
            name = node.input[0]
            (true, ) = alone[node.name].run({name: values[name]})
            (other, ) = alone[node.name].run({name: rounded[name]})
            axes = tuple(i for i in range(true.ndim) if i != 1)
            signal[node.name] += float(true.var(axes).mean())
            noise[node.name] += float(np.square(true - other).mean())
    decibels = (
        LEAST_SIGNAL_DEPTHWISE if _has_depthwise(model) else LEAST_SIGNAL)
    least = 10**(decibels / 10)
    lost = {name for name in alone if signal[name] < least * noise[name]}
    inputs = {node.input[0] for node in layers if node.name in lost}
    found = {node.name for node in layers if node.input[0] in inputs}
    # Upwards to the layers that put these inputs out.
    made = {name: node for node in model.graph.node for name in node.output}
    while inputs:
        node = made.get(inputs.pop())
        if node is not None and node.op_type in LAYERS:
            found.add(node.name)
        elif node is not None and node.op_type in _BETWEEN:
            inputs.update(node.input)
    return found


def _has_depthwise(model: 'onnx.ModelProto') -> bool:
    """Return whether a convolution sums over one channel only, of many."""
    inputs = {
        value.name: value.dims[1]
        for value in model.graph.initializer if len(value.dims) > 1
    }
    return any(
        inputs.get(node.input[1]) == 1 and any(x.name == 'group' and x.i > 1
                                               for x in node.attribute)
        for node in _layers(model.graph))


class _InputsOf:
    """Runs a graph and returns what goes into some of its nodes.

    Args:
        model (onnx.ModelProto): The graph; left as it is.
        nodes (List[onnx.NodeProto]): Nodes of this graph.
    """

    def __init__(self, model: 'onnx.ModelProto',
                 nodes: List['onnx.NodeProto']) -> None:
        names = {node.input[0] for node in nodes}
        self.given = names & {value.name for value in model.graph.input}
        whole = type(model)()
        whole.CopyFrom(model)
        del whole.graph.output[:]
        for name in sorted(names - self.given):
            whole.graph.output.add().name = name
        self.session = Session(whole.SerializeToString())

    def __call__(self, image: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        outputs = self.session.run(image)
        values = dict(zip(self.session.outputs, outputs))
        values.update({name: image[name] for name in self.given})
        return values


def _alone(model: 'onnx.ModelProto', node: 'onnx.NodeProto') -> Session:
    """Return a session that runs this node alone."""
    from onnx import TensorProto, helper
    constants = [x for x in model.graph.initializer if x.name in node.input]
    graph = helper.make_graph([node], 'layer', [
        helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None)
    ], [
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
    ], constants)
    layer = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return Session(layer.SerializeToString())


def _rounded(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return ``value`` rounded to 256 steps from ``low`` to ``high``, one of
    which is 0."""
    step = (high - low) / 255 or 1.0
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(value / step) + zero, 0, 255)
    return ((codes - zero) * step).astype(np.float32)


def _layers(graph: 'onnx.GraphProto') -> List['onnx.NodeProto']:
    """Return the nodes that compute with weights, one output channel a
    row."""
    initializers = {value.name for value in graph.initializer}
    return [
        node for node in graph.node if node.op_type in LAYERS
        and node.input[1] in initializers and rows_are_outputs(node)
    ]


class Reader:
    """Hands calibration data to onnxruntime, which asks for one image after
    another.

    Args:
        images (Iterable[dict]): Inputs of a model, by name.
    """

    def __init__(self, images: Iterable[Dict[str, np.ndarray]]) -> None:
        self.images = iter(images)

    def get_next(self):
        return next(self.images, None)


def _nodes_to_quantize(model: 'onnx.ModelProto', keep: Set[str]) -> List[str]:
    """Return the names of the layers, and of what lies between two of
    them."""
    nodes = model.graph.node
    wanted = {
        node.name
        for node in _layers(model.graph) if node.name not in keep
    }
    # Tensors from which a layer can be reached, and those that one reaches,
    # with nothing between that computes in float.
    before: Set[str] = set()
    after: Set[str] = set()
    for node in reversed(nodes):
        if node.name in wanted:
            before.add(node.input[0])
        elif node.op_type in _BETWEEN and before.intersection(node.output):
            before.update(node.input)
    for node in nodes:
        if node.name in wanted or (node.op_type in _BETWEEN
                                   and after.intersection(node.input)):
            after.update(node.output)
    between = {
        node.name
        for node in nodes if node.op_type in _BETWEEN
        and before.intersection(node.output) and after.intersection(node.input)
    }
    # A Relu behind a layer is part of it, the last ones included.
    ends = {node.output[0] for node in nodes if node.name in wanted}
    last = {
        node.name
        for node in nodes
        if node.op_type in ('Relu', 'Clip') and node.input[0] in ends
    }
    return sorted(wanted | between | last)


def _rewrite(quantized: 'onnx.ModelProto', layers: Dict[str, List[str]],
             weights: Dict[str, np.ndarray], kind: str) -> List[StoredTensor]:
    """Put ternary codes in place of the quantizer's, and biases of 32 bits
    where the engine wants them; return the sizes of the weights."""
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
    """Return the convolutions and linear layers that onnxruntime computes in
    float although they were meant not to.

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
