"""The tensors of a detector's state dict, each once and by group."""
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from .convert import ternary_layers
from .convert.scope import PREDICTIONS as PREDICTION_NAMES
from .layers import TernaryWeight
from .sizes import BUFFERS, OTHER_WEIGHTS, PREDICTIONS, TERNARY, VECTORS


class StateEntry(NamedTuple):
    """One tensor of a state dict.

    Attributes:
        name: Its key.
        tensor: A parameter or buffer.
        group: One of :data:`mmtern.sizes.GROUPS`.
        layer: The ternary layer whose latent weight it is, else None.
        halves: Whether float16 may hold it: a float parameter that is not
            ternary. Trained scales of ternary layers stay exact, as the
            others do; so do buffers.
    """
    name: str
    tensor: Tensor
    group: str
    layer: Optional[TernaryWeight]
    halves: bool


def state_entries(model: nn.Module) -> Tuple[List[StateEntry], Dict[str, str]]:
    """Entries of a model's state dict in its order, and the names under
    which a parameter appears again, each with its first name.

    Raises:
        ValueError: If the state dict holds something else than tensors.
    """
    layers = {id(x.weight): x for x in ternary_layers(model).values()}
    parameters = {id(p) for p in model.parameters()}
    first_names: Dict[int, str] = {}
    entries, aliases = [], {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f'{name} of the state dict is no tensor, but '
                             f'{type(tensor).__name__}')
        if id(tensor) in first_names:
            aliases[name] = first_names[id(tensor)]
            continue
        first_names[id(tensor)] = name
        layer = layers.get(id(tensor))
        is_parameter = id(tensor) in parameters
        halves = (
            is_parameter and layer is None and tensor.dtype == torch.float32
            and not name.endswith('.weight_scale'))
        group = TERNARY if layer is not None else _group(
            name, tensor, is_parameter)
        entries.append(StateEntry(name, tensor, group, layer, halves))
    return entries, aliases


def _group(name: str, tensor: Tensor, is_parameter: bool) -> str:
    if not is_parameter:
        return BUFFERS
    if tensor.dim() < 2:
        return VECTORS
    owner = name.rpartition('.')[0]
    return PREDICTIONS if re.search(PREDICTION_NAMES, owner) else OTHER_WEIGHTS
