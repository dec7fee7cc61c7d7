"""The quantizer of one latent weight: from float weights to what a layer
computes with, and from its gradient back to the latent weight.

Read from top to bottom: what a cache entry holds (:class:`_Entry`), how a
weight is projected (:func:`project_weight`), which weight the layer gets in
each phase (:meth:`Quantizer.__call__`), how long an entry is trusted
(:meth:`Quantizer._entry_of`), and what the gradient goes through
(:meth:`Quantizer._rescale`).
"""
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..ops import (Projection, QuantizedWeight, empty_as, exact_threshold,
                   float_rows, fused, in_layout_of, keep_ternary_scale,
                   learned_scale, max_threshold, mean_threshold, project,
                   rescale_gradient, rows_of, soft_ternary, soft_ternary_slope,
                   sparsity_threshold, straight_through)
from .settings import TernarySettings


class _Steps:
    """Counts the steps of all optimizers of the process.

    Optimizers that write through ``weight.data``, ``ZeroRedundancyOptimizer``
    and kernels on raw pointers change weights without moving their version
    counters; but each is a ``torch.optim.Optimizer``, whose step ends here.
    """
    taken = 0

    @classmethod
    def count(cls, *_) -> None:
        cls.taken += 1


register_optimizer_step_post_hook(_Steps.count)


class _Graph(NamedTuple):
    """A ternary weight's place in the autograd graph, shared by all uses of
    the weight between two of its gradients, so that the gradient is re-scaled
    once.

    Attributes:
        weight: The latent weight that receives the gradient.
        made_for: Beta and temperature of the quantizer when it was made, and
            whether the layer computes from codes.
        node: What stands for the ternary weight in the graph.
    """
    weight: Tensor
    made_for: Tuple[float, float, bool]
    node: Tensor


@dataclass(eq=False)
class _Entry:
    """Cache entry: what was made of one state of a latent weight.

    An entry is complete before it is stored, and its lazy fields get the same
    numbers whoever fills them, so threads may share it.

    Attributes:
        state: See :func:`_state_of`.
        storage: A view of the weight; it keeps the memory from being given to
            another tensor, which would then look like this one.
        projection: Of the weight's filters.
        codes: {-1, 0, +1}, int8, shape and memory format of the weight.
        scale: Of each filter, (C_out, 1), float32.
        values: The ternary weight ``a t`` itself; in eval only.
        graph: Its place in the graph.
    """
    state: Tuple
    storage: Tensor
    projection: Projection
    codes: Tensor
    scale: Tensor
    values: Optional[Tensor] = None
    graph: Optional[_Graph] = None


def _state_of(weight: Tensor, training: bool) -> Tuple:
    """What tells one state of ``weight`` from another without reading it:
    its memory, its version counter and the number of optimizer steps."""
    return (weight.data_ptr(), weight._version, _Steps.taken, weight.shape,
            weight.stride(), weight.dtype, weight.device, training)


def _version_of(weight: Tensor) -> int:
    return 0 if weight.is_inference() else weight._version


def _is_transformed(weight: Tensor) -> bool:
    """Whether ``weight`` is a stand-in without memory of its own: that of a
    ``torch.func`` transform, or a fake one of ``torch.export``."""
    try:
        weight.data_ptr()
    except RuntimeError:
        return True
    return weight.is_meta


def project_weight(settings: TernarySettings,
                   weight: Tensor) -> Tuple[Projection, Tensor]:
    """Project the filters of a weight onto ternary directions.

    Args:
        settings (TernarySettings): Give the threshold rule.
        weight (Tensor): Latent weight, shape (C_out, C_in/groups, kH, kW) or
            (C_out, C_in), any float dtype; projected in float32.

    Returns:
        tuple: The :class:`~mmtern.ops.Projection` and the codes {-1, 0, +1},
        int8, in shape and memory format of ``weight``.
    """
    rows = float_rows(weight)
    if settings.threshold == 'exact':
        threshold: Union[Tensor, Callable[[Tensor], Tensor]] = exact_threshold(
            rows, settings.min_sparsity)
    else:
        # A function: ``project`` calls it block by block, so that the weights
        # are read from memory once.
        rule: Callable[[Tensor], Tensor] = (
            mean_threshold if settings.threshold == 'mean' else max_threshold)
        threshold = rule
        if settings.min_sparsity > 0:
            threshold = torch.maximum(
                rule(rows), sparsity_threshold(rows, settings.min_sparsity))
    codes = empty_as(weight, torch.int8)
    return project(rows, threshold, rows_of(codes)), codes


class Quantizer:
    """Quantizes one latent weight, once per change of that weight.

    It is a plain object beside the layer and holds nothing that a checkpoint
    needs: the quantized weight is a function of the latent one.

    Args:
        settings (TernarySettings): The method.

    Attributes:
        beta (float): Share of the way from the latent weight (0) to the
            ternary weight (1) at which a layer in training computes; set by
            the schedule. In eval a layer is always ternary.
        temperature (float): ``T`` of the gradient factor, or of the soft
            forward; set by the schedule.
    """

    def __init__(self, settings: TernarySettings) -> None:
        self.settings = settings
        self.beta = 1.0
        self.temperature = 0.0
        # A file of trained scales holds least squares ones beside them.
        self._scale_kind = 'lsq' if settings.learns_scale else settings.scale
        self._entry: Optional[_Entry] = None
        self.form, self.residual, self.importance = None, 0.0, None

    def __getstate__(self) -> dict:
        # Copies and pickles start without a cache: graph tensors can be
        # neither.
        return dict(self.__dict__, _entry=None)

    def drop_cache(self) -> None:
        """Forget the quantized weight; needed only after a write through
        ``weight.data`` in eval, which nothing tells."""
        self._entry = None

    def __call__(self,
                 weight: Tensor,
                 training: bool,
                 weight_scale: Optional[Tensor] = None,
                 takes_codes: bool = False) -> Union[Tensor, QuantizedWeight]:
        """Return the weight that a layer computes with.

        ===========================  =====================================
        eval                         ``a t``
        training, ``beta == 1``      ``a t``
        training, ``beta < 1``       ``w + beta (a t - w)``, the proximal map
                                     of ``s/2 ||w - a t||^2`` with ``beta = s
                                     / (1 + s)`` (BinaryRelax, arXiv
                                     1801.06313; ProxQuant, arXiv 1810.00861)
        training, soft forward       the temperature Sigmoid of ``w``
        ===========================  =====================================

        Args:
            weight (Tensor): Latent weight, (C_out, C_in/groups, kH, kW) or
                (C_out, C_in).
            training (bool): The layer's mode.
            weight_scale (Tensor, optional): Trained scales, (2, C_out).
            takes_codes (bool): Whether the layer can compute from codes; see
                :mod:`mmtern.ops.conv`. On a GPU none does: a float copy
                until the backward takes little beside the activations there,
                and to spare it costs the host more calls in each use.

        Returns:
            Tensor or QuantizedWeight: A tensor in shape and dtype of
            ``weight``, or for the ternary training forward of a layer that
            takes them the int8 codes of one, with the gradient sink that
            takes its gradient.
        """
        beta = self.beta if training else 1.0
        if weight_scale is not None:
            return self._with_learned_scale(weight, training, weight_scale,
                                            beta)
        if beta == 0:
            return weight
        if _is_transformed(weight):
            return self._traceable(weight, training, beta)
        entry = self._entry_of(weight, training)
        wants_gradient = torch.is_grad_enabled() and weight.requires_grad
        if not training:
            values = entry.values
            if values is None:
                values = entry.values = self._values_of(entry, weight)
            if not wants_gradient or torch.jit.is_tracing():
                return values
            return self._node(entry, weight, beta, lambda: values)
        soft = self.settings.forward == 'soft'
        if not wants_gradient:
            return self._blend(entry, weight, beta, soft)
        if (takes_codes and beta == 1 and not soft and not self.residual
                and weight.device.type not in fused.DEVICES):
            sink = self._node(
                entry, weight, beta, weight.detach, as_codes=True)
            return QuantizedWeight(entry.codes, entry.scale, sink)
        return self._node(entry, weight, beta,
                          lambda: self._blend(entry, weight, beta, soft), soft)

    def project(self, weight: Tensor, training: bool = False) -> Projection:
        """Return the projection of the present ``weight``'s filters."""
        return self._entry_of(weight, training).projection

    def codes(self, weight: Tensor, training: bool = False) -> Tensor:
        """Return the codes {-1, 0, +1} of the present ``weight``, int8, in
        its shape and memory format; they are not to be written to."""
        return self._entry_of(weight, training).codes

    def scale(self, weight: Tensor) -> Tensor:
        """Return the scale ``a`` of each filter in eval, (C_out, 1),
        float32; the least squares one where the layer trains its own."""
        return self._entry_of(weight, False).scale

    def _entry_of(self, weight: Tensor, training: bool) -> _Entry:
        """Return the cache entry of the present ``weight``.

        An entry is trusted until the weight's memory or version changes, an
        optimizer steps, the layer switches between train and eval, or a
        gradient arrives (see :meth:`_rescale`). While training, a weight
        without gradient gives none of these signs (mmdet's MeanTeacherHook
        writes to it through ``.data``), and an inference tensor has no
        version: both are projected anew.
        """
        if weight.is_inference() or (training and not weight.requires_grad):
            return self._new_entry(weight, training, ())
        entry, state = self._entry, _untraced(_state_of, weight, training)
        if entry is None or entry.state != state:
            self._entry = entry = None  # before its successor takes memory
            entry = self._new_entry(weight, training, state)
            self._entry = entry
        return entry

    def _new_entry(self, weight: Tensor, training: bool,
                   state: Tuple) -> _Entry:
        if torch.is_inference_mode_enabled() and not weight.is_inference():
            # An entry must serve calls in and out of inference mode.
            with torch.inference_mode(False):
                return self._new_entry(weight, training, state)
        projection, codes = _untraced(project_weight, self.settings, weight)
        scale = projection.scale(self._scale_kind)
        if self.importance is not None:
            rows, weights = float_rows(weight), self.importance
            mag, threshold = rows.abs(), projection.threshold
            for _ in range(3):
                kept = (mag > threshold) * weights
                loss_scale = ((kept * mag).sum(1, keepdim=True) /
                              kept.sum(1, keepdim=True).clamp_min(1e-30))
                threshold = loss_scale / 2
            codes = empty_as(weight, torch.int8)
            projection = project(rows, threshold, rows_of(codes))
            scale = projection.scale(self._scale_kind)
        if not training:
            # Makes the projection idempotent, so that a file can hold a t in
            # place of w. In training a last bit is not worth a pass over the
            # weights.
            scale = _untraced(keep_ternary_scale, float_rows(weight), scale)
        return _Entry(state, weight.detach(), projection, codes, scale)

    def _values_of(self, entry: _Entry, weight: Tensor) -> Tensor:
        with torch.inference_mode(weight.is_inference()), torch.no_grad():
            return _untraced(
                QuantizedWeight(entry.codes, entry.scale).values, weight.dtype)

    def _blend(self, entry: _Entry, weight: Tensor, beta: float,
               soft: bool) -> Tensor:
        """Return ``w + beta (a t - w)``, out of the graph; for a soft forward
        with the temperature Sigmoid in the place of ``a t``."""
        if soft:
            values = empty_as(weight)
            rows_of(values).copy_(
                soft_ternary(
                    float_rows(weight), entry.projection.threshold,
                    entry.scale, self.temperature))
        else:
            values = QuantizedWeight(entry.codes,
                                     entry.scale).values(weight.dtype)
        if self.residual:
            return values.add(weight.detach(), alpha=self.residual)
        if beta < 1 and self.form == 'parq':
            rows, out = rows_of(weight.detach()), rows_of(values)
            threshold = entry.projection.threshold
            mag = rows.abs().sub_(threshold).div_(1 - beta).add_(threshold)
            mag = torch.minimum(mag.clamp_min_(0), entry.scale)
            out.copy_(mag.mul_(rows.sign()))
            return values
        if beta < 1 and self.form == 'sphere':
            rows, out = rows_of(weight.detach()), rows_of(values)
            norm = rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
            cos = (rows * out).sum(1, keepdim=True) / norm / out.norm(
                dim=1, keepdim=True).clamp_min(1e-12)
            angle = cos.clamp(-1, 1).acos().clamp_min(1e-4)
            first = ((1 - beta) * angle).sin() / angle.sin()
            second = (beta * angle).sin() / angle.sin()
            out.copy_(first * rows + second * out)
            return values
        return values if beta == 1 else torch.lerp(weight.detach(), values,
                                                   beta)

    def _node(self,
              entry: _Entry,
              weight: Tensor,
              beta: float,
              make: Callable[[], Tensor],
              soft: bool = False,
              as_codes: bool = False) -> Tensor:
        """Return what ``make`` makes, in the graph; the one in ``entry``
        where it still serves."""
        graph, made_for = entry.graph, (beta, self.temperature, as_codes)
        if (graph is None or graph.weight is not weight
                or graph.made_for != made_for):
            node = straight_through(weight, make(),
                                    self._rescale(weight, entry, beta, soft))
            entry.graph = graph = _Graph(weight, made_for, node)
        return graph.node

    def _rescale(self, weight: Tensor, entry: _Entry, beta: float,
                 soft: bool) -> Callable[[Tensor], Tensor]:
        """Return the function from the gradient at the quantized weight to
        that at the latent one. In the ternary phase it multiplies by ``g`` of
        :func:`~mmtern.ops.rescale_factor`, ``floor + (1 - floor) 4 s (1 - s)``
        with ``s = sigmoid(T (|w| / threshold - 1))``, over its mean in the
        filter; before that phase it changes nothing; for a soft forward it
        multiplies by the Sigmoid's slope.

        When it is called, the weight is about to change by whoever asked for
        the gradient, with an optimizer or by hand: the entry is dropped.
        """
        settings, temperature = self.settings, self.temperature
        # Not the entry: it holds the graph, which holds this function. Nor
        # the quantizer, which holds the entry.
        threshold, scale = entry.projection.threshold, entry.scale
        latent, quantizer = weight.detach(), weakref.ref(self)
        version = _version_of(latent)

        def rescale(grad: Tensor) -> Tensor:
            owner = quantizer()
            if owner is not None:
                owner.drop_cache()
            if _version_of(latent) != version:
                raise RuntimeError(
                    'the latent weight of a ternary layer was changed by an '
                    'inplace operation between forward and backward, so its '
                    'gradient cannot be computed')
            if soft:
                slope = soft_ternary_slope(
                    float_rows(latent), threshold, scale, temperature)
                grad = in_layout_of(latent, grad.detach().clone())
                rows_of(grad).mul_(slope.mul_(beta).add_(1 - beta))
                return grad
            if beta < 1:
                return grad
            return rescale_gradient(grad.detach(), latent, threshold,
                                    temperature, settings.floor,
                                    settings.normalize)

        return rescale

    def _with_learned_scale(self, weight: Tensor, training: bool,
                            weight_scale: Tensor, beta: float) -> Tensor:
        """Return TTQ's weight. At ``beta == 0`` it is the latent one, and the
        scales' gradient is zero: DDP waits for one of every parameter."""
        if _is_transformed(weight):
            _, codes = project_weight(self.settings, weight)
        else:
            codes = self._entry_of(weight, training).codes
        values = learned_scale(weight, weight_scale.float(), codes.flatten(1))
        values = values.to(weight.dtype)
        return values if beta == 1 else torch.lerp(weight, values, beta)

    def _traceable(self, weight: Tensor, training: bool,
                   beta: float) -> Tensor:
        """Return the weight by operations that transforms can follow,
        nothing cached: the same values and, at ``T = 0``, gradient."""
        with torch.no_grad():
            entry = self._new_entry(weight, training, ())
            soft = training and self.settings.forward == 'soft'
            values = self._blend(entry, weight, beta, soft)
        return weight + (values - weight).detach()


def _untraced(function: Callable, *args) -> Any:
    """Call ``function`` such that a tracer takes its result for a constant:
    tracers follow one thread, so another one computes it."""
    if not torch.jit.is_tracing():
        return function(*args)

    def without_gradient():
        with torch.no_grad():
            return function(*args)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(without_gradient).result()
