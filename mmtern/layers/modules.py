"""Ternary twins of float layers, and the table that says which is whose."""
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Type, Union

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..ops import (Projection, QuantizedWeight, filters_of, quantized_conv2d,
                   quantized_linear, weight_of)
from .quantizer import Quantizer
from .settings import TernarySettings

# From the exact type of a float layer to its ternary twin: a subclass may
# compute with its weight in another way.
TWINS: Dict[type, Type['TernaryWeight']] = {}


def register_ternary(*float_types: type) -> Callable[[type], type]:
    """Class decorator: have :func:`mmtern.convert` turn layers of these types
    into the decorated class, by changing their class in place.

    The twin is a subclass of :class:`TernaryWeight` and of the float type, in
    this order, and computes with ``self.ternary_weight``. It names the float
    type's own bases, too, as mmengine's ``init_cfg`` finds layers by the names
    of their class and of its bases: ``layer='Conv2d'``. Everything else
    (schedule, regularizer, statistics, packing, ``freeze``, ``inspect``)
    reaches the layer through :class:`TernaryWeight`.

    Args:
        *float_types (type): ``nn.Module`` types; subclasses of them are not
            meant.

    Raises:
        TypeError: If the class is no :class:`TernaryWeight`, or is a subclass
            of none of the float types.

    Examples:
        >>> class ScaledLinear(nn.Linear):
        ...     def forward(self, x):
        ...         return 2 * super().forward(x)
        >>> @register_ternary(ScaledLinear)
        ... class TernScaledLinear(TernaryWeight, ScaledLinear, nn.Linear):
        ...     def forward(self, x):
        ...         return 2 * F.linear(x, self.ternary_weight, self.bias)
    """

    def register(twin: type) -> type:
        if not (issubclass(twin, nn.Module)
                and issubclass(twin, TernaryWeight)):
            raise TypeError(
                'register_ternary decorates a subclass of TernaryWeight and '
                f'of a float layer, but got {twin.__name__}')
        for float_type in float_types:
            TWINS[float_type] = twin
        if 'plain_type' not in vars(twin) and float_types:
            twin.plain_type = float_types[0]
        return twin

    return register


# A mix-in beside a float layer, which alone brings nn.Module at run time.
if TYPE_CHECKING:
    _Mixin = nn.Module
else:
    _Mixin = object


class TernaryWeight(_Mixin):
    """What all ternary layers share: a latent weight seen through a
    :class:`Quantizer`.

    The latent weight keeps its name, shape and place in the state dict, so
    checkpoints pass between a float model and its ternary twin.

    Args:
        *args, **kwargs: Those of the float layer.
        ternary (dict, optional): :class:`TernarySettings` as a dict.

    Attributes:
        latent_name (str): Name of the parameter that is the latent weight.
        plain_type (type): Type whose own ``forward`` computes the same from a
            parameter ``latent_name`` that holds ``a t``. Defaults to the
            first type that the twin is registered for.
        read_by_parent (bool): Whether the module above computes with this
            weight itself, so that this layer is ternary only beside it.
        transposed_groups (int): Groups of a transposed conv, whose latent
            weight is (C_in, C_out/groups, kH, kW); 0 for all others, whose
            first axis is that of the filters.
        quantizer (Quantizer): Of this weight; layers that hold the same
            parameter share it.
        weight_scale (nn.Parameter, optional): Trained scales, (2, C_out).
        scale_is_loaded (bool): Whether a state dict brought the scales, or
            the weight that they follow from.
    """
    latent_name = 'weight'
    plain_type: Optional[type] = None
    read_by_parent = False
    transposed_groups = 0
    quantizer: Quantizer
    weight: Tensor
    weight_scale: Optional[nn.Parameter]
    scale_is_loaded = False
    training: bool

    def __init__(self,
                 *args,
                 ternary: Optional[Dict[str, Any]] = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.init_ternary(TernarySettings(**(ternary or {})))

    def init_ternary(self,
                     settings: TernarySettings,
                     quantizer: Optional[Quantizer] = None) -> None:
        """Give a built layer its quantizer.

        Args:
            settings (TernarySettings): How the weight becomes ternary.
            quantizer (Quantizer, optional): That of another layer that holds
                the same parameter.
        """
        self.quantizer = quantizer or Quantizer(settings)
        self.register_parameter('weight_scale', None)
        if settings.learns_scale:
            scale = self.latent.new_empty(2, len(self.filters(self.latent)))
            self.weight_scale = nn.Parameter(scale)
            self.reset_weight_scale()

    @property
    def latent(self) -> nn.Parameter:
        """The latent weight, in the shape that the float layer gives it."""
        return getattr(self, self.latent_name)

    def filters(self, weight: Tensor) -> Tensor:
        """Return a weight of this layer as the filters that become ternary.

        Args:
            weight (Tensor): Shape of the latent weight.

        Returns:
            Tensor: Shape (C_out, ...), in the graph of ``weight``; filters
            that are ternary already are returned as they are.
        """
        groups = self.transposed_groups
        return filters_of(weight, groups) if groups else weight

    def quantized_weight(self) -> Union[Tensor, QuantizedWeight]:
        """Return what a convolution or linear layer can compute with, as
        filters: see ``takes_any`` of :class:`Quantizer`."""
        return self.quantizer(
            self.filters(self.latent), self.training, self.weight_scale, True)

    @property
    def ternary_weight(self) -> Tensor:
        """The weight that ``forward`` computes with as a tensor in shape and
        dtype of the latent weight, in the graph where it takes a gradient."""
        weight = self.quantizer(
            self.filters(self.latent), self.training, self.weight_scale)
        assert isinstance(weight, Tensor)  # as no codes are asked for
        return weight_of(weight, self.transposed_groups)

    @property
    def projection(self) -> Projection:
        """Projection of the latent weight's filters."""
        return self.quantizer.project(self.filters(self.latent), self.training)

    @property
    def codes(self) -> Tensor:
        """Codes {-1, 0, +1} of the filters, int8, (C_out, ...); not to be
        written to."""
        return self.quantizer.codes(self.filters(self.latent), self.training)

    @torch.no_grad()
    def reset_weight_scale(self) -> None:
        """Start trained scales from the least squares ones."""
        scale = self.projection.scale('lsq')
        assert self.weight_scale is not None
        self.weight_scale.copy_(scale.T.expand_as(self.weight_scale))

    def __setattr__(self, name: str, value: Any) -> None:
        if (name == self.latent_name and isinstance(value, nn.Parameter)
                and getattr(self, 'weight_scale', None) is not None):
            self._fold_into_scales(value)
        super().__setattr__(name, value)

    @torch.no_grad()
    def _fold_into_scales(self, weight: Tensor) -> None:
        """Let trained scales follow a weight that is replaced by a multiple
        of each of its filters.

        So do ``fuse_conv_bn`` of mmcv and ``fuse_conv_bn_eval`` of torch fold
        a batch norm into a conv. Other scales follow by themselves, as they
        are computed from the weight; a weight that is no such multiple has
        come with scales of its own.

        Args:
            weight (Tensor): About to take the place of the latent weight.
        """
        old, scale = self.latent, self.weight_scale
        if old.shape != weight.shape or old.is_meta or weight.is_meta:
            return
        before, after = (
            self.filters(x).flatten(1).double() for x in (old, weight.to(old)))
        tiny = torch.finfo(torch.float64).tiny
        factor = (before * after).sum(1) / before.square().sum(1).clamp(tiny)
        if torch.allclose(before.T * factor, after.T, rtol=1e-3, atol=1e-12):
            assert scale is not None  # as __setattr__ asks
            factor = factor.to(scale)
            # A negative factor turns positive weights into negative ones.
            turned = torch.where(factor < 0, scale.flip(0), scale)
            self.weight_scale = nn.Parameter(turned * factor.abs())

    def train(self, mode: bool = True):
        """Switch the mode; the weight is quantized anew."""
        # EMA and its like write through ``.data``, unseen by version
        # counters, next to such a switch (TernaryScheduleHook sees to what
        # EMAHook writes after a validation).
        self.quantizer.drop_cache()
        return super().train(mode)

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        missing_keys = args[2]
        key = f'{prefix}weight_scale'
        if self.weight_scale is None:
            return
        self.scale_is_loaded = True
        if key in missing_keys:
            # A float checkpoint: nothing is missing, scales follow from it.
            missing_keys.remove(key)
            self.reset_weight_scale()

    def extra_repr(self) -> str:
        settings = self.quantizer.settings
        ours = (f'threshold={settings.threshold}, scale={settings.scale}, '
                f'min_sparsity={settings.min_sparsity:g}')
        return ', '.join(filter(None, (super().extra_repr(), ours)))


@MODELS.register_module()
@register_ternary(nn.Conv2d)
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

    def forward(self, x: Tensor) -> Tensor:
        weight = self.quantized_weight()
        if not isinstance(weight, QuantizedWeight):
            return self._conv_forward(x, weight, self.bias)
        # Codes instead of a float copy: see mmtern/ops/conv.py.
        padding = self.padding
        if self.padding_mode != 'zeros' or isinstance(padding, str):
            mode = self.padding_mode.replace('zeros', 'constant')
            x = F.pad(x, self._reversed_padding_repeated_twice, mode)
            padding = (0, 0)
        return quantized_conv2d(x, weight, self.bias, self.stride, padding,
                                self.dilation, self.groups)


@MODELS.register_module()
@register_ternary(nn.Linear)
class TernLinear(TernaryWeight, nn.Linear):
    """Linear layer whose rows hold the values {-a, 0, +a}.

    Args:
        ternary (dict, optional): :class:`TernarySettings` as a dict.
        *args, **kwargs: Those of ``nn.Linear``.

    Shape as ``nn.Linear``; ``weight`` is (C_out, C_in), its scale one value
    per output feature.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight = self.quantized_weight()
        if not isinstance(weight, QuantizedWeight):
            return F.linear(x, weight, self.bias)
        return quantized_linear(x, weight, self.bias)
