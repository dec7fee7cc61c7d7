"""From a torch module to an ONNX model."""
import inspect
import io
import warnings
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx

# The newest that torch's tracing exporter has had since torch 2.0; newer
# opsets come by onnx's own converter.
_TRACE_OPSET = 17
# The file format's version that goes with each newer opset.
_IR_VERSIONS = {21: 10, 25: 13}


@torch.no_grad()
def trace(module: nn.Module, inputs: Dict[str,
                                          Tensor], output_names: Sequence[str],
          axes: Dict[str, Dict[int, str]], opset: int) -> 'onnx.ModelProto':
    """Export a module by tracing it.

    The tracing (TorchScript) exporter is used on purpose: it is in every
    torch that mmtern supports, needs no further package, and takes 1 s where
    the newer one takes 20 s; both give the same 58 convolutions for the lite
    RetinaNet, norms folded in, and equal outputs.

    Args:
        module (nn.Module): Takes and returns tensors.
        inputs (dict): The arguments of ``module`` by name, in their order.
        output_names (Sequence[str]): Names of what it returns.
        axes (dict): For each input and output its axes of any size.
        opset (int): Opset of the model that is returned.

    Raises:
        ValueError: If the exporter cannot put the module into a graph.
    """
    import onnx
    options: Dict[str, Any] = dict(opset_version=_TRACE_OPSET)
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        options['dynamo'] = False
    buffer: Any = io.BytesIO()  # torch's annotation knows only of paths
    try:
        with warnings.catch_warnings():
            # The deprecation, and traced sizes that are constants on purpose.
            warnings.simplefilter('ignore')
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                buffer,
                input_names=list(inputs),
                output_names=list(output_names),
                dynamic_axes=axes,
                **options)
        model = onnx.load_model_from_string(buffer.getvalue())
        _fold_identities(model)
        if opset > _TRACE_OPSET:
            model = onnx.version_converter.convert_version(model, opset)
            model.ir_version = _IR_VERSIONS[opset]
    # Exporter and converter raise errors of many types, down to TypeError and
    # AttributeError of a module's own code that does not trace.
    except Exception as error:
        reason = ' '.join(str(error).split())[:300]
        raise ValueError(f'{type(module).__name__} cannot be put into an ONNX '
                         f'graph: {type(error).__name__}: {reason}') from error
    return model


class Session:
    """One graph on onnxruntime's CPU provider.

    Args:
        model (str or bytes): A file's path, or a serialized model.
        threads (int, optional): How many a call takes. Defaults to None: as
            many as torch has been given.

    Attributes:
        inputs, outputs: Names of the graph's tensors.

    Raises:
        ValueError: If onnxruntime cannot read it.
    """

    def __init__(self, model, threads=None) -> None:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        name = 'the graph' if isinstance(model, bytes) else repr(model)
        try:
            self.session = onnxruntime.InferenceSession(
                model, options, providers=['CPUExecutionProvider'])
        # onnxruntime's exceptions have no common base but this.
        except Exception as error:
            raise ValueError(f'onnxruntime cannot read {name}: '
                             f'{_one_line(error)}') from None
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    @property
    def metadata(self) -> Dict[str, str]:
        """Texts that the file holds beside its graph."""
        return self.session.get_modelmeta().custom_metadata_map

    def run(self, inputs: Dict[str, np.ndarray]) -> List[np.ndarray]:
        """Return all outputs, in the graph's order.

        Raises:
            ValueError: If onnxruntime fails.
        """
        try:
            return self.session.run(None, inputs)
        except Exception as error:
            raise ValueError('onnxruntime cannot run the graph: '
                             f'{_one_line(error)}') from None


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())[:300]


def _fold_identities(model: 'onnx.ModelProto') -> None:
    """Undo the exporter's joining of equal initializers: each use names the
    initializer itself."""
    graph = model.graph
    initializers = {value.name for value in graph.initializer}
    same = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == 'Identity' and node.input[0] in initializers
    }
    outputs = {value.name for value in graph.output}
    for node in list(graph.node):
        if node.op_type == 'Identity' and node.output[0] in same:
            if node.output[0] not in outputs:
                graph.node.remove(node)
            continue
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
