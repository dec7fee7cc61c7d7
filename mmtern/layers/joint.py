"""Weights ternarized together, where to start a kernel takes longer than the
kernel.

A weight by itself takes some fifty kernels a training step. On a GPU, which
then waits for the calls that start them, they made a step of RetinaNet-R50
2.6 times as long as the float one. Filters of one length are rows of one
matrix, whichever layers they come from, and fifty kernels do for all.
"""
import weakref
from collections import defaultdict
from functools import partial
from typing import Iterable, Iterator, List, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..ops import (CompactWeight, Gradients, cosine_distance,
                   cosine_distance_all, in_layout_of, join_rows, project,
                   rescale_gradient_, rows_of, split_rows,
                   straight_through_all)
from .kept import Kept, state_of
from .settings import TernarySettings
from .thresholds import Thresholds


class JointWeights:
    """Weights of layers with equal settings and filters of equal length.

    Args:
        layers (list[TernaryWeight]): Each with a weight of its own.
    """

    def __init__(self, layers: List[nn.Module]) -> None:
        # Weak: layers that held each other would outlive their model.
        self._layers = [weakref.ref(layer) for layer in layers]
        self.settings: TernarySettings = layers[0].ternarizer.settings
        self.reset()

    def reset(self) -> None:
        """Forget the warm start: the next projection is an exact search."""
        self._thresholds = Thresholds(self.settings)
        self._measured: Tuple[int, ...] = ()

    @torch.no_grad()
    def measure(self) -> None:
        """Give every layer in training whose weight has changed what a step
        needs of it. Frozen weights are left: nothing tells whether they
        changed."""
        layers = self._changed()
        if not layers:
            return
        measured = tuple(map(id, layers))
        if measured != self._measured:
            self.reset()  # the warm start was that of other rows
            self._measured = measured
        weights = [layer.weight for layer in layers]
        rows = join_rows(weights)
        threshold, factor = self._thresholds.of(rows, True)
        active = any(layer.ternarizer.active for layer in layers)
        codes = torch.empty_like(rows, dtype=torch.int8) if active else None
        projection = project(rows, threshold, codes, factor)
        self._thresholds.follow(projection)
        kept = [
            Kept(weight, state_of(weight, True), projection, own)
            for weight, own in zip(weights, _row_slices(weights))
        ]
        if active:
            scale = projection.scale(self.settings.scale)
            values = CompactWeight(codes, scale).values(weights[0].dtype)
            # Weak, that what is kept of a weight is freed when it changes.
            connect = partial(_connect, self.settings,
                              [weakref.ref(one) for one in kept])
            for one, part in zip(kept, split_rows(values, weights)):
                one.values, one.connect = part, connect
        for layer, one in zip(layers, kept):
            layer.ternarizer.keep(one)

    def _changed(self) -> List[nn.Module]:
        """Layers to measure: all of one device and dtype, the others when
        they are asked for."""
        changed, kind = [], None
        for reference in self._layers:
            layer = reference()
            if layer is None:
                continue
            weight, ternarizer = layer.weight, layer.ternarizer
            if (layer.training and weight.requires_grad
                    and ternarizer.is_stale(weight, True)):
                kind = kind or (weight.device, weight.dtype)
                if (weight.device, weight.dtype) == kind:
                    # Before its successor takes memory.
                    ternarizer.drop_cache()
                    changed.append(layer)
        return changed


def join(layers: Iterable[nn.Module]) -> None:
    """Have layers ternarize their weights together where that pays: those
    that agree in settings and filter length. Soft forwards and trained scales
    stay by themselves.

    Args:
        layers (Iterable[TernaryWeight]): Ternary layers of one model.
    """
    groups = defaultdict(dict)
    for layer in layers:
        settings = layer.ternarizer.settings
        if settings.forward == 'hard' and not settings.learns_scale:
            length = layer.weight[0].numel()
            groups[settings, length].setdefault(id(layer.weight), layer)
    for group in groups.values():
        members = list(group.values())
        joint = JointWeights(members)
        for layer in members:
            layer.ternarizer.joint = joint


def cosine_distances(layers: Iterable[nn.Module]) -> Tensor:
    """The regularizer of layers in training: the sum of
    :func:`mmtern.ops.cosine_distance` over all whose weight has a gradient,
    a scalar.

    Args:
        layers (Iterable[TernaryWeight]): Ternary layers, at least one of
            them with a gradient.
    """
    together = defaultdict(list)
    for layer in layers:
        if layer.weight.requires_grad:
            kept = layer.ternarizer.kept_of(layer.weight, True)
            together[id(kept.measured)].append(kept)
    distances = []
    for kept in together.values():
        measured = kept[0].measured
        weights = [one.latent for one in kept]
        if sum(map(len, weights)) == len(measured.norm):
            distances.append(cosine_distance_all(weights, measured))
        else:  # not all that were measured, or one of them twice
            distances += [
                cosine_distance(one.latent, one.projection) for one in kept
            ]
    return torch.stack(distances).sum()


def _row_slices(weights: Sequence[Tensor]) -> Iterator[slice]:
    start = 0
    for weight in weights:
        yield slice(start, start + len(weight))
        start += len(weight)


def _connect(settings: TernarySettings, members: List[weakref.ref],
             temperature: float) -> None:
    """Give weights that were made ternary together their places in the
    graph."""
    kept = [member() for member in members]
    kept = [one for one in kept if one is not None]
    weights = [one.latent for one in kept]
    nodes = straight_through_all(
        weights, [one.values for one in kept],
        partial(_rescale, settings, weights, kept[0].measured.threshold,
                [one.rows for one in kept], temperature))
    for one, node in zip(kept, nodes):
        one.node, one.node_temperature = node, temperature


@torch.no_grad()
def _rescale(settings: TernarySettings, weights: List[Tensor],
             threshold: Tensor, rows: List[slice], temperature: float,
             grads: Gradients) -> Gradients:
    """From the gradients at ternary weights to those at their latent ones,
    (C_out, ...) each.

    Args:
        threshold (Tensor): Of all filters measured, (sum of C_out, 1).
        rows (list[slice]): Which of them are a weight's.
    """
    used = [i for i, grad in enumerate(grads) if grad is not None]
    if settings.rescales_updates or not used:
        return grads
    weights = [weights[i] for i in used]
    latent = join_rows(weights)
    if len(latent) < len(threshold):
        threshold = torch.cat([threshold[rows[i]] for i in used])
    # A copy, even of a single one: it is re-scaled in place.
    joined = torch.cat([
        rows_of(in_layout_of(weight, grads[i]))
        for i, weight in zip(used, weights)
    ])
    rescale_gradient_(joined, latent, threshold, temperature, settings.floor,
                      settings.normalize)
    rescaled = list(grads)
    for i, grad in zip(used, split_rows(joined, weights)):
        rescaled[i] = grad
    return rescaled
