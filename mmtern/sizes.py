"""Bytes that a detector takes in each format, by arithmetic."""
import math
from typing import Dict, List, NamedTuple, Optional

import torch
import zstandard
from torch import nn

from .convert import ternary_layers
from .measure import LayerMeasure
from .summary import average

LOG2_3 = math.log2(3)


class Size(NamedTuple):
    """A format's name, its size in bytes and a remark."""
    format: str
    size: int
    remark: str


def expected_sizes(
        model: nn.Module,
        measures: Optional[Dict[str, LayerMeasure]] = None) -> List[Size]:
    """Sizes of the weights of a converted model, largest first.

    What is not ternary (other weights, biases, norms, buffers and one scale
    a filter) counts in float32 or float16. Headers of the files, some
    kilobytes, are not counted.

    Args:
        model (nn.Module): With ternary layers.
        measures (dict, optional): Of a trained checkpoint. Defaults to None:
            the bound for any codes, log2(3) bits a weight, stands for the
            entropy, and nothing is compressed.
    """
    layers = ternary_layers(model)
    # Layers may share one parameter.
    weights = {id(x.weight): x.weight for x in layers.values()}
    ternary = sum(weight.numel() for weight in weights.values())
    scales = sum(len(weight) for weight in weights.values())
    total = sum(p.numel() for p in model.parameters())
    total += sum(b.numel() for b in model.buffers())
    learned = sum(layer.weight_scale.numel() for layer in layers.values()
                  if layer.weight_scale is not None)
    total -= learned
    rest = total - ternary + scales
    sizes = [
        Size('float32', 4 * total, 'a checkpoint without optimizer state'),
        Size('float16', 2 * total, ''),
        Size('2 bits, rest float32', -(-ternary // 4) + 4 * rest, ''),
        Size('2 bits, rest float16', -(-ternary // 4) + 2 * rest, ''),
    ]
    if not measures:
        sizes.append(
            Size('entropy bound, rest float16',
                 math.ceil(ternary * LOG2_3 / 8) + 2 * rest,
                 'at most log2(3) = 1.58 bits a weight; more zeros, fewer'))
        return sizes
    coded = list(measures.values())
    count = sum(m.weights for m in coded)
    mean_bits = average(coded)['bits_per_weight']
    per_weight = 8 * sum(len(_zstd(m)) for m in coded) / count
    sizes += [
        Size('2 bits with zstd, rest float16',
             math.ceil(ternary * per_weight / 8) + 2 * rest,
             f'{per_weight:.2f} bits a weight, compressed here'),
        Size('entropy bound, rest float16',
             math.ceil(ternary * mean_bits / 8) + 2 * rest,
             f'{mean_bits:.2f} bits a weight, if coded independently'),
    ]
    return sizes


def _zstd(measure: LayerMeasure) -> bytes:
    """Codes packed four to a byte, then compressed."""
    codes = (measure.codes.flatten() + 1).to(torch.uint8)
    codes = nn.functional.pad(codes, (0, -len(codes) % 4)).view(-1, 4)
    shifts = torch.tensor([1, 4, 16, 64], dtype=torch.uint8)
    packed = (codes * shifts).sum(1, dtype=torch.uint8)
    return zstandard.ZstdCompressor(level=12).compress(
        packed.numpy().tobytes())


def readable(size: int) -> str:
    """Bytes as MB (10^6 bytes) or kB."""
    return f'{size / 1e6:.2f} MB' if size >= 1e6 else f'{size / 1e3:.1f} kB'
