"""What hooks that attach themselves to modules or optimizers share."""
from typing import Any, List

from mmengine.hooks import Hook
from mmengine.runner import Runner


class AttachedHook(Hook):
    """A hook that attaches functions to the model or its optimizers while a
    run trains.

    They are gone after the run, and where an interrupted runner trains again,
    they are not there twice. Attach functions, not methods: copies of a model
    would copy a method's hook, and the runner with it.

    Attributes:
        handles (list): Those of what is attached, to be filled in
            ``before_train`` after this class's own.
    """

    def __init__(self) -> None:
        self.handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        self._detach()

    def after_train(self, runner: Runner) -> None:
        self._detach()

    def _detach(self) -> None:
        while self.handles:
            self.handles.pop().remove()
