"""A bound on what a stranger's config may build."""
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Dict, Iterator

from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook)

from .errors import TernaryFileError

# Some layers are built with default sizes first, and replaced. In 99 configs
# of mmdet's zoo, one a model, the parameters and buffers registered hold up to
# 2.5 times the numbers of the state dict (Mask R-CNN for LVIS), and with the
# modules they are up to 2.7 times its entries (Faster R-CNN, RegNet). The rest
# is for other models, and for the smallest ones.
SLACK = 8
FREE_PARTS = 1000
FREE_NUMBERS = 10_000_000


@contextmanager
def bounded_by(state_dict: Dict[str, Tensor]) -> Iterator[None]:
    """Stop a building of models in this thread that takes far more parts,
    parameters or buffers than a state dict can fill, before they take memory
    or time.

    Args:
        state_dict (dict): What is to be loaded into the model.

    Raises:
        TernaryFileError: From within the building.
    """
    parts = SLACK * len(state_dict) + FREE_PARTS
    numbers = SLACK * sum(x.numel() for x in state_dict.values())
    numbers += FREE_NUMBERS
    thread = get_ident()

    def count(module: Any, name: str, part: Any) -> None:
        nonlocal parts, numbers
        if get_ident() != thread:
            return
        parts -= 1
        numbers -= part.numel() if isinstance(part, Tensor) else 0
        if parts < 0 or numbers < 0:
            raise TernaryFileError(
                'its config builds far more than its tensors fill')

    hooks = [
        register(count)
        for register in (register_module_module_registration_hook,
                         register_module_parameter_registration_hook,
                         register_module_buffer_registration_hook)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
