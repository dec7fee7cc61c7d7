"""Several ONNX graphs as one."""
from itertools import count
from typing import TYPE_CHECKING, Container, Dict, Iterator, Sequence

from .activations import LAYERS

if TYPE_CHECKING:
    import onnx


def join(models: Sequence['onnx.ModelProto'], inputs: Sequence[str],
         outputs: Sequence[str]) -> 'onnx.ModelProto':
    """Return one graph that runs several one after another.

    Tensors that are inputs or outputs of one keep their names, by which the
    graphs find each other; all others get short ones. Names take more bytes
    than two-bit weights do in small networks.

    Args:
        models (Sequence[onnx.ModelProto]): The graphs in their order, all of
            one opset; left as they are.
        inputs, outputs (Sequence[str]): Names of the whole graph's tensors.
    """
    import onnx
    whole = onnx.ModelProto()
    whole.CopyFrom(models[0])
    whole.ClearField('graph')
    whole.ClearField('metadata_props')
    whole.graph.name = 'detector'
    kept, values = set(), {}
    for model in models:
        for value in (*model.graph.input, *model.graph.output):
            kept.add(value.name)
            values[value.name] = value
        for domain in model.opset_import:
            if domain.domain not in [x.domain for x in whole.opset_import]:
                whole.opset_import.add().CopyFrom(domain)
    numbers = count()
    for model in models:
        graph = onnx.GraphProto()
        graph.CopyFrom(model.graph)
        _shorten(graph, kept, numbers)
        whole.graph.node.extend(graph.node)
        whole.graph.initializer.extend(graph.initializer)
    _ask_codes_for_shapes(whole.graph.node)
    whole.graph.input.extend(values[name] for name in inputs)
    whole.graph.output.extend(values[name] for name in outputs)
    return whole


def _ask_codes_for_shapes(nodes) -> None:
    """Let ``Shape`` look at 8-bit codes instead of their float values, which
    onnxruntime would compute once more for it alone."""
    codes = {
        node.output[0]: node.input[0]
        for node in nodes if node.op_type == 'DequantizeLinear'
    }
    for node in nodes:
        if node.op_type == 'Shape':
            node.input[0] = codes.get(node.input[0], node.input[0])


def _shorten(graph: 'onnx.GraphProto', kept: Container[str],
             numbers: Iterator[int]) -> None:
    names: Dict[str, str] = {}
    for value in graph.initializer:
        if value.name not in kept:
            names[value.name] = f'w{next(numbers)}'
            value.name = names[value.name]
    for node in graph.node:
        for name in node.output:
            if name and name not in kept:
                names[name] = f't{next(numbers)}'
    _rename(graph.node, names)


def _rename(nodes, names: Dict[str, str]) -> None:
    for node in nodes:
        node.doc_string = ''
        # A layer's name says where it stands in the detector.
        if node.op_type not in LAYERS:
            node.name = ''
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = names.get(name, name)
        for attribute in node.attribute:
            # Branches and loops see the tensors around them.
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner.node, names)
                for value in inner.output:
                    value.name = names.get(value.name, value.name)
