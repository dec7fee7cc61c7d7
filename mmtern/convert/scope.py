"""Which layers become ternary, why the others do not, and how many zeros they
share."""
import re
from dataclasses import dataclass
from typing import Optional, Sequence

from mmcv.cnn.bricks import wrappers
from torch import nn

from ..checks import check_flag, check_sparsity
from ..layers import TWINS, TernConv2d, TernLinear, register_ternary

# What the last layers of mmdet's heads are named after, at the end of a name
# like retina_cls, fc_reg, multi_level_conv_obj.0 or cls_branches.3, but not
# of the towers before them (cls_convs.0.conv, reg_fcs.1). Beside scores and
# boxes: offsets of deformable layers, kernels of dynamic ones, mask
# coefficients.
PREDICTED = ('cls', 'reg', 'obj', 'iou', 'pred', 'score', 'logits',
             'centerness', 'offsets?', 'loc', 'shape', 'wh', 'heatmap',
             'pts_(?:init|refine)_out', 'controller', 'kernel', 'coeff',
             'mask_list', 'segm_conv', 'content_encoder')
PREDICTIONS = '|'.join((
    rf'(?:^|[._])(?:{"|".join(PREDICTED)})'
    r'(?:_(?!convs|fcs)[a-z]+)*(?:\.\d+)*$',
    # SSD's heads are lists of Sequentials.
    r'(?:cls|reg)_convs\.\d+\.\d+$',
    # CornerNet's end in a ConvModule: tl_heat.0.1.conv.
    r'_(?:heat|emb|off|shift|offset)(?:\.\d+)+\.conv$',
))
# Large fully connected layers of mmdet's RoI heads.
FULLY_CONNECTED = r'fcs\.\d+$'

# mmcv's wrappers differ from torch's layers only for empty inputs on old
# torch.
register_ternary(wrappers.Conv2d)(TernConv2d)
register_ternary(wrappers.Linear)(TernLinear)


@dataclass(frozen=True)
class Scope:
    """Layers chosen by name, and the zeros that they share; patterns are
    regular expressions, searched for anywhere in the module's dotted name.

    Args:
        include (Sequence[str], optional): Convert only convs and linears
            that match one of these. Defaults to None: all convs, and the
            linears of RoI heads (``shared_fcs``, ``cls_fcs``, ...).
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
        """Why ``layer`` stays full precision; None if it becomes ternary.

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
        if isinstance(layer, nn.Conv2d):
            if not self.stem and reads_image:
                return 'stem'
            depthwise = 1 < layer.groups == layer.in_channels
            if not self.depthwise and depthwise:
                return 'depthwise'
        if self.include is not None:
            included = any(re.search(p, name) for p in self.include)
        else:
            included = isinstance(layer, nn.Conv2d) or bool(
                re.search(FULLY_CONNECTED, name))
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
