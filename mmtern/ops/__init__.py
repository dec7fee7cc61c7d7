"""The maths of ternary weights: pure functions on tensors."""
from .allocation import allocate_zeros
from .binned import binned_threshold
from .compact import CompactWeight, compact_conv2d, compact_linear
from .entropy import entropy, largest_entropy
from .gradient import (rescale_factor, rescale_gradient_, rescale_update_,
                       sigmoid_bump, soft_ternary, soft_ternary_slope)
from .packing import (BITS_PER_CODE, CODES_PER_BYTE, pack_codes, packed_size,
                      unpack_codes)
from .projection import (SCALES, Projection, ThresholdRule,
                         fixed_point_threshold, keep_ternary_scale, project,
                         ternary_codes)
from .regularizer import cosine_distance, cosine_distance_all
from .rows import (empty_as, float_rows, in_layout_of, join_rows, row_blocks,
                   rows_of, split_rows)
from .scratch import codes_memory
from .ternarize import (Gradients, Rescale, learned_scale, straight_through,
                        straight_through_all)
from .threshold import (exact_threshold, max_threshold, mean_threshold,
                        sparsity_threshold)

__all__ = [
    'BITS_PER_CODE', 'CODES_PER_BYTE', 'CompactWeight', 'Gradients',
    'Projection', 'Rescale', 'SCALES', 'ThresholdRule', 'allocate_zeros',
    'binned_threshold', 'codes_memory', 'compact_conv2d', 'compact_linear',
    'cosine_distance', 'cosine_distance_all', 'empty_as', 'entropy',
    'exact_threshold', 'fixed_point_threshold', 'float_rows', 'in_layout_of',
    'join_rows', 'keep_ternary_scale', 'largest_entropy', 'learned_scale',
    'max_threshold', 'mean_threshold', 'pack_codes', 'packed_size', 'project',
    'rescale_factor', 'rescale_gradient_', 'rescale_update_', 'row_blocks',
    'rows_of', 'sigmoid_bump', 'soft_ternary', 'soft_ternary_slope',
    'sparsity_threshold', 'split_rows', 'straight_through',
    'straight_through_all', 'ternary_codes', 'unpack_codes'
]
