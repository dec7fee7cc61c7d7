"""The maths of ternary weights: pure functions on tensors, on torch alone."""
from .allocation import allocate_zeros
from .conv import QuantizedWeight, quantized_conv2d, quantized_linear
from .packing import (BITS_PER_CODE, CODES_PER_BYTE, entropy, largest_entropy,
                      pack_codes, packed_size, unpack_codes)
from .projection import (SCALES, Projection, ThresholdRule, empty_as,
                         exact_threshold, float_rows, in_layout_of,
                         keep_ternary_scale, max_threshold, mean_threshold,
                         project, project_and_blend, row_blocks, rows_of,
                         sparsity_threshold, ternary_codes)
from .regularizer import cosine_distance
from .straight_through import (learned_scale, rescale_factor, rescale_gradient,
                               sigmoid_bump, soft_ternary, soft_ternary_slope,
                               straight_through)
from .transposed import filters_of, weight_of

__all__ = [
    'BITS_PER_CODE', 'CODES_PER_BYTE', 'Projection', 'QuantizedWeight',
    'SCALES', 'ThresholdRule', 'allocate_zeros', 'cosine_distance', 'empty_as',
    'entropy', 'exact_threshold', 'filters_of', 'float_rows', 'in_layout_of',
    'keep_ternary_scale', 'largest_entropy', 'learned_scale', 'max_threshold',
    'mean_threshold', 'pack_codes', 'packed_size', 'project',
    'project_and_blend', 'quantized_conv2d', 'quantized_linear',
    'rescale_factor', 'rescale_gradient', 'row_blocks', 'rows_of',
    'sigmoid_bump', 'soft_ternary', 'soft_ternary_slope', 'sparsity_threshold',
    'straight_through', 'ternary_codes', 'unpack_codes', 'weight_of'
]
