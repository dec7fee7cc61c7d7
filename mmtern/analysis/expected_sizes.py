"""Sizes that a detector would have in each format, before any export."""
import math
from typing import Dict, List, NamedTuple, Optional

from torch import nn

from ..files.encode import encode_codes
from ..files.sizes import megabytes, state_entries
from ..ops import largest_entropy, packed_size
from .measure import LayerMeasure, average

SCALE_BYTES = 4  # one float32 a filter
EXPORT = 'tools/export.py'  # by default: zstd, the rest in float32


class ExpectedSize(NamedTuple):
    """The name of a format, its size in bytes and a remark."""
    format: str
    size: int
    remark: str


def expected_sizes(
        model: nn.Module,
        measures: Optional[Dict[str,
                                LayerMeasure]] = None) -> List[ExpectedSize]:
    """Return the sizes of the tensors of a converted model in each format,
    largest first.

    As the packed file stores them: scales and buffers in float32, other
    parameters in float32 or float16. Headers of the files, some kilobytes,
    are not counted, nor that zstd shortens float weights, too, by some
    percent.

    Args:
        model (nn.Module): With ternary layers.
        measures (dict, optional): Of a trained checkpoint. Defaults to None:
            the entropy bound for codes with the zeros that the config asks
            for stands for what zstd makes of them.
    """
    entries, _ = state_entries(model)
    layers = [e.layer for e in entries if e.layer is not None]
    ternary = [layer.latent for layer in layers]
    count = sum(weight.numel() for weight in ternary)
    packed = sum(packed_size(weight.numel()) for weight in ternary)
    scales = SCALE_BYTES * sum(len(x.filters(x.latent)) for x in layers)
    others = [e for e in entries if e.layer is None]
    full = sum(e.tensor.nbytes for e in others)
    half = sum(e.tensor.nbytes // (2 if e.halves else 1) for e in others)
    sizes = [
        ExpectedSize('float32', 4 * count + full,
                     'a checkpoint without optimizer state'),
        ExpectedSize('float16', 2 * count + half, ''),
        ExpectedSize('2 bits, rest float32', packed + scales + full, ''),
        ExpectedSize('2 bits, rest float16', packed + scales + half, ''),
    ]
    if measures:
        measured = list(measures.values())
        bits = 8 * sum(encode_codes(m.codes).nbytes
                       for m in measured) / sum(m.weights for m in measured)
        bound = average(measured)['bits_per_weight']
        remark = (f'{bits:.2f} bits a weight; entropy, if independent, '
                  f'{bound:.2f}')
    else:
        most = sum(x.latent.numel() *
                   largest_entropy(x.quantizer.settings.min_sparsity)
                   for x in layers)
        bits = most / max(count, 1)
        remark = f'at most {bits:.2f} bits a weight; more zeros, fewer'
    coded = math.ceil(count * bits / 8) + scales
    sizes += [
        ExpectedSize(EXPORT, coded + full, remark),
        ExpectedSize(f'{EXPORT} --dtype float16', coded + half,
                     'predictions differ a little'),
    ]
    return sizes


def readable(size: int) -> str:
    """Return a number of bytes in MB (10^6 bytes) or kB."""
    return megabytes(size) if size >= 1e6 else f'{size / 1e3:.1f} kB'
