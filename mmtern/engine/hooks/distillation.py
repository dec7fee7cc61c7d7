"""The float detector as a teacher of its ternary twin."""
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor, nn

from ...checks import is_number
from ...convert import ternary_layers
from .schedule import unwrapped_ternary_layers
from .surroundings import check_alone, forward_mode

EPSILON = 1e-6

Features = Union[Tensor, Sequence[Tensor]]


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
    neck); with ``head_weight``, the class maps of the dense head or of the
    RPN are compared in the same way as ``loss_distillation_head``, which
    reaches the ternary towers, too. The teacher is the run's own model config
    with full-precision forward; it lives beside the model, so neither state
    dict nor optimizer sees it. A step takes about a third more time.

    Args:
        teacher (str): Checkpoint of the float detector. Named here and not
            taken from the model, which a resumed run has already trained.
        loss_weight (float): Of the features. Defaults to 4.
        head_weight (float): Of the class maps; 0 leaves them out. Defaults
            to 0.
    """

    def __init__(self,
                 teacher: str,
                 loss_weight: float = 4.0,
                 head_weight: float = 0.0) -> None:
        if not (isinstance(teacher, str) and teacher):
            raise ValueError('teacher must be the path of a float checkpoint, '
                             f'but got {teacher!r}')
        if not (is_number(loss_weight) and loss_weight > 0):
            raise ValueError(
                f'loss_weight must be a number > 0, but got {loss_weight!r}')
        if not (is_number(head_weight) and head_weight >= 0):
            raise ValueError(
                f'head_weight must be a number >= 0, but got {head_weight!r}')
        self.teacher_file = teacher
        self.loss_weight = loss_weight
        self.head_weight = head_weight
        self._teacher: Optional[nn.Module] = None
        self._outputs: Dict[str, Any] = {}
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
        neck = getattr(model, 'with_neck', False)
        self._keep(model.neck if neck else model.backbone, 'features')
        if self.head_weight:
            self._keep(_dense_head(model), 'head')
        self._handles.append(
            model.register_forward_hook(self._add_loss, with_kwargs=True))

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._teacher, self._outputs = [], None, {}

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

    def _keep(self, module: nn.Module, name: str) -> None:
        """Hold what ``module`` returns until the step's loss is built."""

        def keep(module, args, output) -> None:
            self._outputs[name] = output

        self._handles.append(module.register_forward_hook(keep))

    def _add_loss(self, model, args: tuple, kwargs: dict, output):
        mode = forward_mode(args, kwargs)
        student, self._outputs = self._outputs, {}
        if mode != 'loss':
            return output
        inputs = args[0] if args else kwargs['inputs']
        with torch.no_grad():
            features = self._teacher.extract_feat(inputs)
        losses = dict(loss_distillation=self.loss_weight *
                      _mean_distance(student['features'], features))
        if self.head_weight:
            with torch.no_grad():
                targets = _dense_head(self._teacher)(features)
            losses['loss_distillation_head'] = (
                self.head_weight *
                _mean_distance(student['head'][0], targets[0]))
        return dict(output, **losses)


def _dense_head(model: nn.Module) -> nn.Module:
    """The head that answers at every position: its first output is a list of
    class maps, one a level."""
    head = getattr(model, 'rpn_head', None) or getattr(model, 'bbox_head',
                                                       None)
    if not isinstance(head, BaseDenseHead):
        raise ValueError(
            'head_weight needs a detector with an mmdet dense head or RPN, '
            f'but {type(model).__name__} has {type(head).__name__}')
    return head


def _mean_distance(student: Features, teacher: Features) -> Tensor:
    student, teacher = ((x, ) if isinstance(x, Tensor) else x
                        for x in (student, teacher))
    return torch.stack([
        correlation_distance(one, other)
        for one, other in zip(student, teacher)
    ]).mean()
