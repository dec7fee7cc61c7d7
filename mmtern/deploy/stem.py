"""The first convolution over blocks of 2 x 2 pixels.

Integer kernels take channels four at a time. The three of an image they pack
anew for each place of the kernel, which makes the stem of a small ResNet its
slowest layer. Its stride of 2 moves by whole blocks, so a convolution of
stride 1 with half the kernel has the same sums over the 12 channels that
``SpaceToDepth`` makes of each block.
"""
from typing import TYPE_CHECKING, Collection, Tuple

import numpy as np

if TYPE_CHECKING:
    import onnx


def over_blocks(model: 'onnx.ModelProto',
                keep: Collection[str]) -> 'onnx.ModelProto':
    """Return the model with each convolution of stride 2 that reads fewer
    than 4 channels, an input of the model, turned into one over blocks.

    Args:
        model (onnx.ModelProto): With float weights, for inputs with even
            sides; left as it is.
        keep (Collection[str]): Names of nodes to leave alone.
    """
    from onnx import helper, numpy_helper
    changed = type(model)()
    changed.CopyFrom(model)
    graph = changed.graph
    inputs = {value.name for value in graph.input}
    weights = {value.name: value for value in graph.initializer}
    reads = [name for node in graph.node for name in node.input]
    for place, node in enumerate(list(graph.node)):
        if (node.op_type != 'Conv' or node.name in keep
                or node.input[0] not in inputs
                or node.input[1] not in weights):
            continue
        value = weights[node.input[1]]
        given = {x.name: helper.get_attribute_value(x) for x in node.attribute}
        if (value.dims[1] >= 4 or reads.count(value.name) > 1
                or given.get('strides') != [2, 2] or given.get('group', 1) > 1
                or set(given.get('dilations', [1])) != {1}):
            continue
        weight = numpy_helper.to_array(value)
        top, left, bottom, right = given.get('pads', [0, 0, 0, 0])
        rows = _along(weight.shape[2], top, bottom)
        columns = _along(weight.shape[3], left, right)
        value.CopyFrom(
            numpy_helper.from_array(
                _weight_over_blocks(weight, top, left, rows, columns),
                value.name))
        blocks = f'{node.output[0]}_blocks'
        graph.node.insert(
            place,
            helper.make_node(
                'SpaceToDepth', [node.input[0]], [blocks], blocksize=2))
        node.input[0] = blocks
        del node.attribute[:]
        node.attribute.extend([
            helper.make_attribute('kernel_shape', [rows[0], columns[0]]),
            helper.make_attribute('pads',
                                  [rows[1], columns[1], rows[2], columns[2]]),
            helper.make_attribute('strides', [1, 1])
        ])
    return changed


def _along(kernel: int, before: int, after: int) -> Tuple[int, int, int]:
    """Return kernel and padding along one axis in blocks, for those of a
    convolution of stride 2 in pixels."""
    first = -before // 2
    last = (kernel - 1 - before) // 2
    size = last - first + 1
    # As many outputs as in pixels, of even sides.
    return size, -first, (before + after - kernel) // 2 + last + 1


def _weight_over_blocks(weight: np.ndarray, top: int, left: int,
                        rows: Tuple[int, int, int],
                        columns: Tuple[int, int, int]) -> np.ndarray:
    """Return a weight (O, C, h, w) as one over blocks, (O, 4 C, h', w'), with
    zeros where the blocks reach beyond the kernel."""
    margins = [(0, 0), (0, 0)]
    for (size, padding, _), before, taps in ((rows, top, weight.shape[2]),
                                             (columns, left, weight.shape[3])):
        front = 2 * padding - before
        margins.append((front, 2 * size - taps - front))
    weight = np.pad(weight, margins)
    outputs, channels = weight.shape[:2]
    weight = weight.reshape(outputs, channels, rows[0], 2, columns[0], 2)
    # SpaceToDepth's order: a block's row, its column, the channel.
    weight = weight.transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(
        weight.reshape(outputs, 4 * channels, rows[0], columns[0]))
