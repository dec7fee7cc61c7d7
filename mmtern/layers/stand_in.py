"""Run a float layer's own forward on other weights."""
from typing import Any

from torch import nn


class StandIn:
    """A layer as it is, but for some attributes.

    ``FloatType.forward(StandIn(layer, weight=values), x)`` computes what the
    float type computes, with ``values`` in the place of the parameter. The
    layer itself is not touched, so threads may share it, and whatever a
    version of the float type does in its forward stays its own.

    Only forwards without ``super()`` can be run like this.

    Args:
        layer (nn.Module): Gives all other attributes and methods.
        **values: Attributes to give in place of the layer's.
    """

    def __init__(self, layer: nn.Module, **values: Any) -> None:
        self.__dict__.update(values, layer=layer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__['layer'], name)
