"""The choice of the layers that become ternary, and their least shares of
zeros."""
import re
from dataclasses import dataclass
from typing import Optional, Sequence

from mmcv.cnn.bricks import wrappers
from torch import nn

from ..checks import check_flag, check_sparsity
from ..layers import (TWINS, TernConv2d, TernConvTranspose2d, TernLinear,
                      register_ternary)

# What the last layers of mmdet's heads are named after, at the end of a name
# like retina_cls, fc_reg, multi_level_conv_obj.0 or cls_branches.3, but not
# of the towers before them (cls_convs.0.conv, reg_fcs.1). Beside scores and
# boxes: offsets of deformable layers and the weights of their points, points
# that queries refer to, kernels of dynamic convs, mask coefficients,
# embeddings that are compared.
PREDICTED = ('cls', 'reg', 'obj', 'iou', 'pred', 'score', 'logits',
             'centerness', 'offsets?', 'loc', 'shape', 'wh', 'heatmap',
             'pts_(?:init|refine)_out', 'controller', 'kernel', 'coeff',
             'mask_list', 'segm_conv', 'content_encoder', 'attention_weights',
             'reference_points', 'ref_point_head', 'ref_anchor_head',
             'mask_embed', 'fc_embed', r'glbctx_head\.fc')
PREDICTIONS = '|'.join((
    rf'(?:^|[._])(?:{"|".join(PREDICTED)})'
    r'(?:_(?!convs|fcs|ffn)[a-z]+)*(?:\.layers)?(?:\.\d+)*$',
    # SSD's heads are lists of Sequentials.
    r'(?:cls|reg)_convs\.\d+\.\d+$',
    # CornerNet's end in a ConvModule: tl_heat.0.1.conv.
    r'_(?:heat|emb|off|shift|offset)(?:\.\d+)+\.conv$',
))
# mmdet's TOOD multiplies this weight with an attention before it convolves, so
# nothing of the layer's own runs.
READ_ELSEWHERE = r'_decomp\.reduction_conv\.conv$'
# Pretrained text encoders of grounded detectors: they are not what finds
# boxes, and most are frozen.
LANGUAGE = r'(?:^|\.)language_model\.'

# mmcv's wrappers differ from torch's layers only for empty inputs on old
# torch.
register_ternary(wrappers.Conv2d)(TernConv2d)
register_ternary(wrappers.ConvTranspose2d)(TernConvTranspose2d)
register_ternary(wrappers.Linear)(TernLinear)


@dataclass(frozen=True)
class Scope:
    """The layers to convert, chosen by name, and their least share of zeros;
    patterns are regular expressions, searched for anywhere in the module's
    dotted name.

    Args:
        include (Sequence[str], optional): Convert only layers that match one
            of these. Defaults to None: all layers of a type that has a
            ternary twin, but for language models.
        exclude (Sequence[str]): Leave what matches one of these, beside the
            stem and the predictions. Defaults to none.
        stem (bool): Convert the layers that read the image, too.
        predictions (bool): Convert the heads' last layers, too.
        depthwise (bool): Convert depthwise convs (few weights, sensitive),
            too.
        model_sparsity (float): Least share of zeros over all layers that
            become ternary, in [0, 1): larger layers get more of them, see
            :func:`mmtern.ops.allocate_zeros`. ``min_sparsity`` of
            :class:`TernarySettings` asks the same of each filter.
    """
    include: Optional[Sequence[str]] = None
    exclude: Sequence[str] = ()
    stem: bool = False
    predictions: bool = False
    depthwise: bool = False
    model_sparsity: float = 0.0

    def __post_init__(self) -> None:
        check_sparsity('model_sparsity', self.model_sparsity)
        for name in ('stem', 'predictions', 'depthwise'):
            check_flag(name, getattr(self, name))
        if self.include is not None:
            _check_patterns('include', self.include)
        _check_patterns('exclude', self.exclude)

    def reason_to_leave(self,
                        name: str,
                        layer: nn.Module,
                        reads_image: bool = False) -> Optional[str]:
        """Return why ``layer`` stays full precision, or None if it becomes
        ternary.

        Args:
            name (str): Its dotted name.
            layer (nn.Module): With a weight of two or more axes.
            reads_image (bool): Whether it is one of
                :func:`mmtern.convert.image_readers`.
        """
        if type(layer) not in TWINS:
            return type(layer).__name__
        if any(re.search(pattern, name) for pattern in self.exclude):
            return 'excluded'
        if not self.predictions and re.search(PREDICTIONS, name):
            return 'prediction'
        if re.search(READ_ELSEWHERE, name):
            return 'read elsewhere'
        if not self.stem and reads_image:
            return 'stem'
        groups = getattr(layer, 'groups', 1)
        in_channels = getattr(layer, 'in_channels', None)
        if not self.depthwise and 1 < groups == in_channels:
            return 'depthwise'
        if self.include is None:
            return 'language model' if re.search(LANGUAGE, name) else None
        included = any(re.search(p, name) for p in self.include)
        return None if included else 'not included'


def _check_patterns(name: str, patterns: Sequence[str]) -> None:
    if not isinstance(patterns, (list, tuple)):
        raise ValueError(
            f'{name} must be a list of patterns, but got {patterns!r}')
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(f'{name} holds {pattern!r}, which is no regular '
                             f'expression: {error}') from None
