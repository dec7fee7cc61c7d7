"""What is kept of a latent weight until it changes."""
from dataclasses import dataclass
from typing import Callable, Optional, Tuple

import torch
from torch import Tensor

from ..ops import (CompactWeight, Projection, empty_as, float_rows, project,
                   rows_of)


def state_of(weight: Tensor, training: bool) -> Tuple:
    """What tells one state of ``weight`` from another without reading it.

    Every step of an optimizer, ``load_state_dict``, move and in-place edit
    changes it; an edit through ``weight.data`` does not.

    Args:
        weight (Tensor): Any shape. Whoever keeps its state keeps the weight,
            too: freed, its address may become another tensor's.
        training (bool): The layer's mode.
    """
    version = 0 if weight.is_inference() else weight._version
    return (weight.data_ptr(), version, weight.dtype, weight.device, training,
            torch.is_inference_mode_enabled())


@dataclass(eq=False)
class Kept:
    """All that was made of one state of a latent weight, each when it was
    asked for first.

    Attributes:
        latent: The weight, of shape (C_out, ...).
        state: Its :func:`state_of`.
        measured: Projection of its filters, and of more where weights are
            ternarized together.
        rows: Which of ``measured`` are its own; None for all.
        codes: {-1, 0, +1}, int8, shape and memory format of the weight.
        compact: Codes and scale, for a layer in training.
        values: The ternary weight, for eval, the soft forward, and where
            weights are ternarized together.
        node: The weight's place in the graph, one for all uses in a step: so
            the gradient is re-scaled once.
        node_temperature: At which ``node`` re-scales it.
        connect: Makes ``node``, at a temperature, for this weight and those
            ternarized with it; None for a weight by itself.
    """
    latent: Tensor
    state: Tuple
    measured: Projection
    rows: Optional[slice] = None
    codes: Optional[Tensor] = None
    compact: Optional[CompactWeight] = None
    values: Optional[Tensor] = None
    node: Optional[Tensor] = None
    node_temperature: float = 0.0
    connect: Optional[Callable[[float], None]] = None

    @property
    def projection(self) -> Projection:
        """Of this weight's filters."""
        if self.rows is None:
            return self.measured
        return Projection(*(field[self.rows] for field in self.measured))

    def all_codes(self) -> Tensor:
        """``codes``, made now where they were not."""
        if self.codes is None:  # projected before the switch to ternary
            self.codes = empty_as(self.latent, torch.int8)
            project(
                float_rows(self.latent), self.projection.threshold,
                rows_of(self.codes))
        return self.codes
