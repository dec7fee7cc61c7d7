"""Ternary twins of ``nn.Conv2d`` and ``nn.Linear``."""
from typing import Any, Dict, Optional

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..ops import compact_conv2d, compact_linear, project
from .settings import TernarySettings
from .ternarizer import Ternarizer


class TernaryWeight:
    """What both layers share: a latent ``weight`` seen through a
    :class:`Ternarizer`.

    The latent weight keeps its name, shape and place in the state dict, so
    checkpoints pass between a float model and its ternary twin.
    """
    ternarizer: Ternarizer
    weight: nn.Parameter
    weight_scale: Optional[nn.Parameter]

    def init_ternary(self,
                     settings: TernarySettings,
                     ternarizer: Optional[Ternarizer] = None) -> None:
        """Give a built layer its ternarizer (``ternarizer`` of another layer
        where both hold the same parameter)."""
        self.ternarizer = ternarizer or Ternarizer(settings)
        self.register_parameter('weight_scale', None)
        if settings.learns_scale:
            signs = 2 if settings.scale == 'ttq' else 1
            scale = self.weight.new_empty(signs, self.weight.shape[0])
            self.weight_scale = nn.Parameter(scale)
            self.reset_weight_scale()

    @torch.no_grad()
    def reset_weight_scale(self) -> None:
        """Start trained scales from the least squares ones."""
        rows = self.weight.detach().flatten(1).float()
        threshold = self.ternarizer.project(self.weight).threshold
        scale = project(rows, threshold).scale('lsq')
        self.weight_scale.copy_(scale.T.expand_as(self.weight_scale))

    @property
    def ternary_weight(self) -> Tensor:
        """The weight that ``forward`` computes with, shape of ``weight``."""
        return self.ternarizer(self.weight, self.weight_scale, self.training)

    def train(self, mode: bool = True):
        """Switch the mode; ternary values are computed anew."""
        # EMA and its like write through ``.data``, unseen by version
        # counters, but only between a train and an eval.
        self.ternarizer.drop_cache()
        return super().train(mode)

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        missing_keys = args[2]
        key = f'{prefix}weight_scale'
        if self.weight_scale is not None and key in missing_keys:
            # A float checkpoint: nothing is missing, scales follow from it.
            missing_keys.remove(key)
            self.reset_weight_scale()

    def extra_repr(self) -> str:
        settings = self.ternarizer.settings
        return (f'{super().extra_repr()}, threshold={settings.threshold}, '
                f'scale={settings.scale}, '
                f'min_sparsity={settings.min_sparsity:g}')


@MODELS.register_module()
class TernConv2d(TernaryWeight, nn.Conv2d):
    """2D convolution whose filters hold the values {-a, 0, +a}.

    Found by mmcv's builder as ``conv_cfg=dict(type='TernConv2d')``.

    Args:
        ternary (dict, optional): :class:`TernarySettings` as a dict.
        *args, **kwargs: Those of ``nn.Conv2d``.

    Shape as ``nn.Conv2d``; ``weight`` is (C_out, C_in/groups, kH, kW), its
    scale one value per output channel.

    Examples:
        >>> conv = TernConv2d(16, 8, 3)
        >>> conv.ternary_weight[0].unique().numel()
        3
    """

    def __init__(self,
                 *args,
                 ternary: Optional[Dict[str, Any]] = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.init_ternary(TernarySettings(**(ternary or {})))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        compact = self.ternarizer.compact(weight, self.training)
        if compact is None or x.dim() == 3:
            weight = self.ternarizer(weight, self.weight_scale, self.training)
            return self._conv_forward(x, weight, self.bias)
        padding = self.padding
        if self.padding_mode != 'zeros' or isinstance(padding, str):
            mode = self.padding_mode.replace('zeros', 'constant')
            x = F.pad(x, self._reversed_padding_repeated_twice, mode)
            padding = (0, 0)
        return compact_conv2d(x, *compact, self.bias, self.stride, padding,
                              self.dilation, self.groups)


@MODELS.register_module()
class TernLinear(TernaryWeight, nn.Linear):
    """Linear layer whose rows hold the values {-a, 0, +a}.

    Args:
        ternary (dict, optional): :class:`TernarySettings` as a dict.
        *args, **kwargs: Those of ``nn.Linear``.

    Shape as ``nn.Linear``; ``weight`` is (C_out, C_in), its scale one value
    per output feature.
    """

    def __init__(self,
                 *args,
                 ternary: Optional[Dict[str, Any]] = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.init_ternary(TernarySettings(**(ternary or {})))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        compact = self.ternarizer.compact(weight, self.training)
        if compact is None:
            weight = self.ternarizer(weight, self.weight_scale, self.training)
            return F.linear(x, weight, self.bias)
        return compact_linear(x, *compact, self.bias)
