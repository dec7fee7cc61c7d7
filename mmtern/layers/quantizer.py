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
from torch.fx import Proxy
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..ops import (Projection, QuantizedWeight, ThresholdRule, empty_as,
                   exact_threshold, float_rows, fused, in_layout_of,
                   keep_ternary_scale, learned_scale, max_threshold,
                   mean_threshold, project, project_and_blend,
                   rescale_gradient, rows_of, soft_ternary, soft_ternary_slope,
                   sparsity_threshold, straight_through, ternary_codes)
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
        as_codes: Whether the layer computes from codes.
        node: What stands for the ternary weight in the graph.
    """
    weight: Tensor
    as_codes: bool
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
        dtype: Of ``values``; autocast's where the layer would cast them.
        fields: Those of the projection of the weight's filters, one after
            the other; from a kernel as one tensor, (5, C_out, 1).
        quantized: Codes and scale; None where a kernel made ``values``.
        values: What the layer computes with: in eval the ternary weight once
            it is asked for, in training what a kernel made.
        graph: Its place in the graph.
    """
    state: Tuple
    storage: Tensor
    dtype: torch.dtype
    fields: Union[Projection, Tensor]
    quantized: Optional[QuantizedWeight]
    values: Optional[Tensor] = None
    graph: Optional[_Graph] = None


def _state_of(weight: Tensor, *others: Any) -> Tuple:
    """What tells one state of ``weight`` from another without reading it:
    its memory, its version counter and the number of optimizer steps; and
    whatever else decides what is made of it."""
    return (weight.data_ptr(), weight._version, _Steps.taken, weight.shape,
            weight.stride(), weight.dtype, weight.device, *others)


def _version_of(weight: Tensor) -> int:
    return 0 if weight.is_inference() else weight._version


def _autocast_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype to which autocast has convolutions and linear layers
    cast ``weight``, each time they use it; its own without autocast, and
    where no kernel would spare the cast."""
    kind = weight.device.type
    # PyTorch before 2.4 cannot be asked for a type of device.
    if (kind in fused.DEVICES and weight.dtype == torch.float32
            and hasattr(torch, 'get_autocast_dtype')
            and torch.is_autocast_enabled(kind)):
        return torch.get_autocast_dtype(kind)
    return weight.dtype


def _is_transformed(weight: Tensor) -> bool:
    """Whether ``weight`` is a stand-in without memory of its own: that of a
    ``torch.func`` transform, or a fake one of ``torch.export``.

    Raises:
        ValueError: For one of ``torch.fx``, which follows no choices.
    """
    if isinstance(weight, Proxy):
        raise ValueError(
            'torch.fx cannot trace ternary layers: leave out the runner\'s '
            'efficient_conv_bn_eval, or trace mmtern.freeze(model)')
    try:
        weight.data_ptr()
    except RuntimeError:
        return True
    return weight.is_meta


def _threshold(settings: TernarySettings,
               weight: Tensor) -> Union[Tensor, ThresholdRule]:
    """Return the thresholds of the filters, (C_out, 1), or a function that
    finds them block by block, so that the weights are read from memory
    once."""
    if settings.threshold == 'exact':
        return exact_threshold(float_rows(weight), settings.min_sparsity)
    rule: ThresholdRule = (
        mean_threshold if settings.threshold == 'mean' else max_threshold)
    if settings.min_sparsity > 0:
        rows = float_rows(weight)
        return torch.maximum(
            rule(rows), sparsity_threshold(rows, settings.min_sparsity))
    return rule


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
    return _project(weight, _threshold(settings, weight))


def _project(
        weight: Tensor,
        threshold: Union[Tensor, ThresholdRule]) -> Tuple[Projection, Tensor]:
    codes = empty_as(weight, torch.int8)
    return project(float_rows(weight), threshold, rows_of(codes)), codes


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
        self._is_soft = settings.forward == 'soft'
        # A file of trained scales holds least squares ones beside them.
        self._scale_kind = 'lsq' if settings.learns_scale else settings.scale
        self._entry: Optional[_Entry] = None

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
                 takes_any: bool = False) -> Union[Tensor, QuantizedWeight]:
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
            takes_any (bool): Whether the layer is a convolution or linear
                layer that can compute from codes, see :mod:`mmtern.ops.conv`,
                or from a weight in autocast's dtype. On a GPU none computes
                from codes: a float copy until the backward takes little
                beside the activations there, and to spare it costs the host
                more calls in each use.

        Returns:
            Tensor or QuantizedWeight: A tensor in shape and dtype of
            ``weight``; for a layer that takes them, in autocast's dtype, or
            for its ternary training forward the int8 codes of one, with the
            gradient sink that takes its gradient.
        """
        beta = self.beta if training else 1.0
        if weight_scale is not None:
            return self._with_learned_scale(weight, training, weight_scale,
                                            beta)
        if beta == 0:
            return weight
        if _is_transformed(weight):
            return self._traceable(weight, training)
        entry = self._entry_of(weight, training, takes_any)
        wants_gradient = torch.is_grad_enabled() and weight.requires_grad
        if not wants_gradient or (not training and torch.jit.is_tracing()):
            return self._values(entry, weight, training)
        if (takes_any and training and beta == 1 and not self._is_soft
                and weight.device.type not in fused.DEVICES):
            assert entry.quantized is not None  # made by no kernel
            sink = self._node(entry, weight, training, as_codes=True)
            return entry.quantized._replace(sink=sink)
        return self._node(entry, weight, training)

    def project(self, weight: Tensor, training: bool = False) -> Projection:
        """Return the projection of the present ``weight``'s filters."""
        return Projection(*self._entry_of(weight, training).fields)

    def codes(self, weight: Tensor, training: bool = False) -> Tensor:
        """Return the codes {-1, 0, +1} of the present ``weight``, int8, in
        its shape and memory format; they are not to be written to."""
        entry = self._entry_of(weight, training)
        if entry.quantized is not None:
            return entry.quantized.codes
        codes = empty_as(weight, torch.int8)
        rows = float_rows(weight)
        rows_of(codes).copy_(ternary_codes(rows, entry.fields[0]))
        return codes

    def scale(self, weight: Tensor) -> Tensor:
        """Return the scale ``a`` of each filter in eval, (C_out, 1),
        float32; the least squares one where the layer trains its own."""
        quantized = self._entry_of(weight, False).quantized
        assert quantized is not None  # as always in eval
        return quantized.scale

    def _entry_of(self,
                  weight: Tensor,
                  training: bool,
                  takes_any: bool = True) -> _Entry:
        """Return the cache entry of the present ``weight``, for layers that
        take it in autocast's dtype or for others.

        An entry is trusted until the weight's memory or version changes, an
        optimizer steps, the layer switches between train and eval, the
        schedule moves on, or a gradient arrives (see :meth:`_rescale`). While
        training, a weight without gradient gives none of these signs (mmdet's
        MeanTeacherHook writes to it through ``.data``), and an inference
        tensor has no version: both are projected anew.
        """
        dtype = _autocast_dtype(weight) if takes_any else weight.dtype
        if weight.is_inference() or (training and not weight.requires_grad):
            return self._new_entry(weight, training, (), dtype)
        entry, state = self._entry, _untraced(_state_of, weight, training,
                                              self.beta, self.temperature,
                                              dtype)
        if entry is None or entry.state != state:
            self._entry = entry = None  # before its successor takes memory
            entry = self._new_entry(weight, training, state, dtype)
            self._entry = entry
        return entry

    def _new_entry(self, weight: Tensor, training: bool, state: Tuple,
                   dtype: torch.dtype) -> _Entry:
        if torch.is_inference_mode_enabled() and not weight.is_inference():
            # An entry must serve calls in and out of inference mode.
            with torch.inference_mode(False):
                return self._new_entry(weight, training, state, dtype)
        threshold = _untraced(_threshold, self.settings, weight)
        if training and not self._is_soft and not self.settings.learns_scale:
            made = _untraced(project_and_blend, weight, threshold,
                             self._scale_kind, self.beta, dtype)
            if made is not None:
                fields, values = made
                return _Entry(state, weight.detach(), dtype, fields, None,
                              values)
        projection, codes = _untraced(_project, weight, threshold)
        scale = projection.scale(self._scale_kind)
        if not training:
            # Makes the projection idempotent, so that a file can hold a t in
            # place of w. In training a last bit is not worth a pass over the
            # weights.
            scale = _untraced(keep_ternary_scale, float_rows(weight), scale)
        return _Entry(state, weight.detach(), dtype, projection,
                      QuantizedWeight(codes, scale))

    def _values(self, entry: _Entry, weight: Tensor, training: bool) -> Tensor:
        """Return the weight that a layer computes with, out of the graph."""
        if entry.values is not None:
            return entry.values
        if training:
            return self._blend(entry, weight)
        assert entry.quantized is not None
        with torch.inference_mode(weight.is_inference()), torch.no_grad():
            entry.values = _untraced(entry.quantized.values, entry.dtype)
        return entry.values

    def _blend(self, entry: _Entry, weight: Tensor) -> Tensor:
        """Return ``w + beta (a t - w)``, out of the graph; for a soft forward
        with the temperature Sigmoid in the place of ``a t``."""
        assert entry.quantized is not None
        if self._is_soft:
            values = empty_as(weight)
            rows_of(values).copy_(
                soft_ternary(
                    float_rows(weight), entry.fields[0], entry.quantized.scale,
                    self.temperature))
        else:
            values = entry.quantized.values(weight.dtype)
        if self.beta == 1:
            return values
        return torch.lerp(weight.detach(), values, self.beta)

    def _node(self,
              entry: _Entry,
              weight: Tensor,
              training: bool,
              as_codes: bool = False) -> Tensor:
        """Return what stands for the quantized weight in the graph: the one
        in ``entry`` where it still serves."""
        graph = entry.graph
        if (graph is None or graph.weight is not weight
                or graph.as_codes != as_codes):
            values = (
                entry.storage if as_codes else self._values(
                    entry, weight, training))
            node = straight_through(weight, values,
                                    self._rescale(entry, training))
            entry.graph = graph = _Graph(weight, as_codes, node)
        return graph.node

    def _rescale(self, entry: _Entry,
                 training: bool) -> Callable[[Tensor], Tensor]:
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
        beta, soft = (self.beta, self._is_soft) if training else (1.0, False)
        # Not the entry: it holds the graph, which holds this function. Nor
        # the quantizer, which holds the entry.
        threshold, latent = entry.fields[0], entry.storage
        quantized = entry.quantized if soft else None
        quantizer, version = weakref.ref(self), _version_of(latent)

        def rescale(grad: Tensor) -> Tensor:
            owner = quantizer()
            if owner is not None:
                owner.drop_cache()
            if _version_of(latent) != version:
                raise RuntimeError(
                    'the latent weight of a ternary layer was changed by an '
                    'inplace operation between forward and backward, so its '
                    'gradient cannot be computed')
            if quantized is not None:
                slope = soft_ternary_slope(
                    float_rows(latent), threshold, quantized.scale,
                    temperature)
                grad = in_layout_of(latent, grad.detach().clone())
                rows_of(grad).mul_(slope.mul_(beta).add_(1 - beta))
                return grad
            if beta < 1:
                return grad.to(latent.dtype)
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
            codes = self.codes(weight, training)
        values = learned_scale(weight, weight_scale.float(), codes.flatten(1))
        values = values.to(weight.dtype)
        return values if beta == 1 else torch.lerp(weight, values, beta)

    def _traceable(self, weight: Tensor, training: bool) -> Tensor:
        """Return the weight by operations that transforms can follow,
        nothing cached: the same values and, at ``T = 0``, gradient."""
        with torch.no_grad():
            entry = self._new_entry(weight, training, (), weight.dtype)
            values = self._values(entry, weight, training)
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
