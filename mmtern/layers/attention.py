"""Multi-head attention with ternary projections."""
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from .modules import TernaryWeight, TernLinear, register_ternary
from .stand_in import StandIn


@register_ternary(nn.MultiheadAttention)
class TernMultiheadAttention(TernaryWeight, nn.MultiheadAttention):
    """Attention whose projections hold the values {-a, 0, +a} a row.

    ``in_proj_weight``, (3 E, E), is three matrices, one below the other. As
    each row has a threshold and a scale of its own, they are the same as
    three ternary linear layers. Scores, softmax and the sum of values have no
    weights and stay as they are.

    The weight of ``out_proj`` is read here, past the forward of that layer,
    which is a ternary layer beside this one unless a scope excludes it. Both
    of PyTorch's ways to compute, the fused one of inference and the other,
    get the ternary weights.
    """
    latent_name = 'in_proj_weight'

    def forward(self, *args, **kwargs):
        out_proj = self.out_proj
        if isinstance(out_proj, TernaryWeight):
            out_proj = StandIn(out_proj, weight=out_proj.ternary_weight)
        layer = StandIn(
            self, in_proj_weight=self.ternary_weight, out_proj=out_proj)
        return nn.MultiheadAttention.forward(layer, *args, **kwargs)


@register_ternary(NonDynamicallyQuantizableLinear)
class TernOutProjection(TernLinear, NonDynamicallyQuantizableLinear,
                        nn.Linear):
    """``out_proj`` of :class:`TernMultiheadAttention`."""
    read_by_parent = True
