"""How much of a detector becomes ternary."""
from typing import Dict, Union

from torch import nn

from mmtern import Scope, survey
from mmtern.layers import TWINS

SCOPES = dict(
    share=Scope(),
    share_all=Scope(stem=True, predictions=True, depthwise=True))


def shares(detector: nn.Module) -> Dict[str, Union[int, float]]:
    """Count the weights of a float detector that would become ternary.

    Returns:
        dict: ``parameters``, all of the detector's, those of norms and biases
        with them; ``share`` of them that is ternary by default, in [0, 1];
        ``share_all`` with stem, predictions and depthwise convs.
    """
    parameters = sum(p.numel() for p in detector.parameters())
    counts: Dict[str, Union[int, float]] = dict(parameters=parameters)
    layers = dict(detector.named_modules())
    for key, scope in SCOPES.items():
        sizes = {}
        for record in survey(detector, scope).ternary:
            layer = layers[record.name]
            latent = getattr(layer, TWINS[type(layer)].latent_name)
            sizes[id(latent)] = record.weights
        counts[key] = sum(sizes.values()) / parameters
    return counts
