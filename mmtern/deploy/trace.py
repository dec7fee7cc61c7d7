"""From a torch module to an ONNX model."""
import inspect
import io
import warnings
from typing import TYPE_CHECKING, Dict, Sequence

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
def trace(module: nn.Module, example: Tensor, input_name: str,
          output_names: Sequence[str], axes: Dict[str, Dict[int, str]],
          opset: int) -> 'onnx.ModelProto':
    """Export a module of one input by tracing it.

    The tracing (TorchScript) exporter is used on purpose: it is in every
    torch that mmtern supports, needs no further package, and takes 1 s where
    the newer one takes 20 s; both give the same 58 convolutions for the lite
    RetinaNet, norms folded in, and equal outputs.

    Args:
        axes (dict): For each input and output its axes of any size.
        opset (int): Of the model returned.
    """
    import onnx
    options = dict(opset_version=_TRACE_OPSET)
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        options['dynamo'] = False
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The deprecation, and traced sizes that are constants on purpose.
        warnings.simplefilter('ignore')
        torch.onnx.export(
            module, (example, ),
            buffer,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes=axes,
            **options)
    model = onnx.load_model_from_string(buffer.getvalue())
    if opset > _TRACE_OPSET:
        model = onnx.version_converter.convert_version(model, opset)
        model.ir_version = _IR_VERSIONS[opset]
    return model


def run(model: 'onnx.ModelProto', value: np.ndarray) -> list:
    """Outputs of a model of one input."""
    import onnxruntime
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider'])
    return session.run(None, {session.get_inputs()[0].name: value})
