"""The float detector as a teacher of its ternary twin."""
from typing import Any, List, Optional, Sequence, Union

import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor, nn

from ..convert import ternary_layers
from .checks import check_alone, is_number
from .schedule import unwrapped_ternary_layers
from .surroundings import forward_mode

EPSILON = 1e-6


def correlation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """``1 - r`` averaged over channels, ``r`` the Pearson correlation of a
    channel over images and positions.

    Feature imitation of PKD (arXiv 2207.02039, eq. 3), which does not ask for
    equal magnitudes: a ternary network need not reproduce those.

    Args:
        student (Tensor): Feature map (N, C, H, W).
        teacher (Tensor): The same shape; receives no gradient.

    Returns:
        Tensor: Scalar in [0, 2], float32.
    """
    student, teacher = (
        x.float().transpose(0, 1).flatten(1)
        for x in (student, teacher.detach()))
    student = student - student.mean(1, keepdim=True)
    teacher = teacher - teacher.mean(1, keepdim=True)
    norms = student.norm(dim=1) * teacher.norm(dim=1)
    correlation = (student * teacher).sum(1) / norms.clamp(min=EPSILON)
    return (1 - correlation).mean()


@HOOKS.register_module()
class TernaryDistillationHook(Hook):
    """Adds ``loss_weight * mean_level (1 - r)`` between the features of the
    ternary detector and of a frozen float one as ``loss_distillation``.

    The features are what the neck hands on (the backbone, where there is no
    neck). The teacher is the run's own model config with full-precision
    forward; it lives beside the model, so neither state dict nor optimizer
    sees it. A step takes about a third more time.

    Args:
        teacher (str): Checkpoint of the float detector. Named here and not
            taken from the model, which a resumed run has already trained.
        loss_weight (float): Defaults to 4.
    """

    def __init__(self, teacher: str, loss_weight: float = 4.0) -> None:
        if not (isinstance(teacher, str) and teacher):
            raise ValueError('teacher must be the path of a float checkpoint, '
                             f'but got {teacher!r}')
        if not (is_number(loss_weight) and loss_weight > 0):
            raise ValueError(
                f'loss_weight must be a number > 0, but got {loss_weight!r}')
        self.teacher_file = teacher
        self.loss_weight = loss_weight
        self._teacher: Optional[nn.Module] = None
        self._features: Sequence[Tensor] = ()
        self._handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        check_alone(runner, self)
        unwrapped_ternary_layers(runner, type(self).__name__)
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if not hasattr(model, 'extract_feat'):
            raise ValueError(
                'TernaryDistillationHook needs a detector with extract_feat, '
                f'but {type(model).__name__} has none')
        self._teacher = self._build_teacher(runner, model)
        source = model.neck if getattr(model, 'with_neck', False) else \
            model.backbone
        self._handles = [
            source.register_forward_hook(self._keep_features),
            model.register_forward_hook(self._add_loss, with_kwargs=True)
        ]

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._teacher, self._features = [], None, ()

    def _build_teacher(self, runner: Runner, model: nn.Module) -> nn.Module:
        if not isinstance(runner.cfg.get('model'), dict):
            raise ValueError('TernaryDistillationHook builds its teacher from '
                             "the run's config, but that has no model")
        teacher = MODELS.build(runner.cfg.model)
        load_checkpoint(
            teacher, self.teacher_file, map_location='cpu', strict=True)
        for layer in ternary_layers(teacher).values():
            layer.ternarizer.active = False
        device = next(model.parameters()).device
        return teacher.to(device).eval().requires_grad_(False)

    def _keep_features(self, module, args, output) -> None:
        self._features = _levels(output)

    def _add_loss(self, model, args: tuple, kwargs: dict, output):
        mode = forward_mode(args, kwargs)
        features, self._features = self._features, ()
        if mode != 'loss':
            return output
        inputs = args[0] if args else kwargs['inputs']
        with torch.no_grad():
            targets = _levels(self._teacher.extract_feat(inputs))
        distances = [
            correlation_distance(student, teacher)
            for student, teacher in zip(features, targets)
        ]
        loss = torch.stack(distances).mean() * self.loss_weight
        return dict(output, loss_distillation=loss)


def _levels(features: Union[Tensor, Sequence[Tensor]]) -> Sequence[Tensor]:
    return (features, ) if isinstance(features, Tensor) else features
