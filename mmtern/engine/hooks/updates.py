"""Optimizer steps re-scaled, weight by weight or filter by filter."""
from typing import Any, Callable, Dict, Iterable, List

from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch.optim import Optimizer

from ...layers import TernaryWeight


def optimizers_of(optim_wrapper: OptimWrapper) -> List[Optimizer]:
    """All optimizers of a run."""
    wrappers = (
        optim_wrapper.values()
        if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper])
    return [wrapper.optimizer for wrapper in wrappers]


class UpdateRescaling:
    """Re-scales what optimizers do to latent weights, for layers with
    ``rescale='update'`` or a ``reference_rms``.

    PyTorch's own hooks around ``Optimizer.step`` keep the latent weights of
    before the step and move them on by their multiple of it. They run where
    a step is taken: not while gradients accumulate, nor where a gradient
    scaler skips one. By then the activations are gone, so the copies do not
    raise the peak of memory.
    """

    def __init__(self) -> None:
        self._handles: List[Any] = []

    def start(self, optim_wrapper: OptimWrapper,
              layers: Iterable[TernaryWeight]) -> None:
        """Watch the optimizers of a run."""
        self.stop()
        # A weight that layers share once, and so their ternarizer.
        layers = {
            id(layer.weight): layer
            for layer in layers if layer.ternarizer.settings.rescales_steps
        }
        for optimizer in optimizers_of(optim_wrapper):
            self._watch(optimizer, layers)

    def stop(self) -> None:
        """Leave the optimizers as they were."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _watch(self, optimizer: Optimizer,
               layers: Dict[int, TernaryWeight]) -> None:
        trained = [
            layers[id(parameter)] for group in optimizer.param_groups
            for parameter in group['params'] if id(parameter) in layers
        ]
        if not trained:
            return
        waiting: List[Callable[[], None]] = []

        def before_step(*_: Any) -> None:
            for layer in trained:
                rescale = layer.ternarizer.update_rescaler(layer.weight)
                if rescale is not None:
                    waiting.append(rescale)

        def after_step(*_: Any) -> None:
            while waiting:
                waiting.pop()()

        self._handles += [
            optimizer.register_step_pre_hook(before_step),
            optimizer.register_step_post_hook(after_step),
        ]
