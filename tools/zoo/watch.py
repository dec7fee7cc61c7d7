"""What a ternary detector computes with, while it runs."""
from contextlib import contextmanager
from typing import Iterator, Set

from torch import nn
from torch.overrides import TorchFunctionMode

from mmtern import ternary_layers
from mmtern.ops import filters_of

COMPUTE = ('conv2d', 'linear', 'matmul', 'mm', 'bmm', 'einsum',
           'multi_head_attention_forward', '_native_multi_head_attention',
           'conv1d', 'conv_transpose2d')


@contextmanager
def three_values(detector: nn.Module) -> Iterator[Set[str]]:
    """Check the weight of each ternary layer that runs; hands out their
    names."""
    ran: Set[str] = set()
    layers = ternary_layers(detector)
    read = [name for name, x in layers.items() if x.read_by_parent]

    def hook(name: str):

        def look(layer, args) -> None:
            groups = layer.transposed_groups
            rows = filters_of(layer.ternary_weight, groups).flatten(1)
            scale = rows.abs().amax(1, keepdim=True)
            if not ((rows == 0) | (rows.abs() == scale)).all():
                raise ValueError(f'{name} does not compute with three values')
            ran.add(name)
            # Its forward is not called: the attention reads its weight.
            ran.update(x for x in read if x.rpartition('.')[0] == name)

        return look

    handles = [
        layer.register_forward_pre_hook(hook(name))
        for name, layer in layers.items()
    ]
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def latent_weights_unused(detector: nn.Module) -> Iterator[None]:
    """Fail where a module computes with a latent weight, past its layer."""
    latent = {id(x.latent): n for n, x in ternary_layers(detector).items()}

    class Watch(TorchFunctionMode):

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if getattr(func, '__name__', '') in COMPUTE:
                for value in (*args, *(kwargs or {}).values()):
                    if id(value) in latent:
                        raise ValueError(
                            f'{latent[id(value)]} is used past its layer')
            return func(*args, **(kwargs or {}))

    with Watch():
        yield
