"""The hook that teaches a ternary detector what the float detector that it
began from computes."""
import logging
from inspect import Parameter, signature
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...checks import is_number
from ...convert import ternary_layers
from ...files import provenance
from ...models import float_config
from ..building import build_model
from ..checkpoints import read_checkpoint
from ..distributed import unwrapped
from .attached import AttachedHook
from .runner_checks import check_alone, forward_mode

# Where a run keeps the teacher's path, so that a resumed one finds it.
TEACHER = 'ternary/teacher'
LEAST_VARIANCE = 1e-3
# Where a channel's mean would be nearer. A pupil begins as a copy of its
# teacher, up to BatchNorm's statistics: 0.05 to 0.4 away in three detectors.
FAR = 1.0


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance between two feature maps, relative to the
    teacher's variance: 0 where they are equal, 1 for a map that knows nothing
    but each channel's mean. The variance counts as at least
    ``LEAST_VARIANCE`` of the teacher's mean square.

    Args:
        student (Tensor): Shape (N, C, H, W), any float dtype.
        teacher (Tensor): Likewise.

    Returns:
        Tensor: A scalar, float32.
    """
    student, teacher = student.float(), teacher.float()
    mean = teacher.mean((0, 2, 3), keepdim=True)
    variance = (teacher - mean).square().mean()
    # A map of one cell, or of a head that knows nothing yet, hardly varies.
    least = (LEAST_VARIANCE * teacher.square().mean()).clamp(min=1e-12)
    return (student - teacher).square().mean() / variance.maximum(least)


@HOOKS.register_module()
class TernaryDistillationHook(AttachedHook):
    """Adds the distance between what the detector computes and what the float
    detector that it began from does to the losses, as ``loss_distillation``:
    ``loss_weight`` times the sum over ``modules`` of the mean of
    :func:`feature_distance` over the maps that each puts out.

    Labels say what is in an image, at a few anchors; the float detector's
    features and predictions say at each position what is to be computed
    there, also of what no label names. Ternary weights lose that first.

    The teacher is the run's own detector without its ternary wrapper, in
    eval, without gradient. It sees the student's batch and is no part of the
    model: state dicts stay as they are. Its path is kept in the run's
    checkpoints, so that a resumed run has the same one. A run that does not
    begin from a float detector goes without a teacher, and says so in its
    log.

    Source: hints of a teacher's features, Romero et al., "FitNets", arXiv
    1412.6550, from float to quantized weights as in Polino et al., arXiv
    1802.05668; to compare predictions by the same distance and to weight by
    variance is ours.

    Args:
        loss_weight (float): Defaults to 5; 0 takes no teacher.
        checkpoint (str, optional): Of the trained float detector, which must
            fit then. Defaults to None, the run's ``load_from``.
        modules (str or Sequence[str], optional): Names of modules of the
            backbone, the neck or the dense head (``bbox_head`` of a one-stage
            detector, ``rpn_head``) whose outputs are compared: maps (N, C, H,
            W), or nested lists of them. Defaults to None: the backbone, the
            neck, and the dense head if the checkpoint has one of the same
            classes.

    Raises:
        ValueError: For another value of an argument; when training begins,
            if a named module is not there or cannot learn, ``checkpoint`` is
            no float detector with the parts that are compared, or their maps
            have other shapes in training than in eval.
    """

    def __init__(self,
                 loss_weight: float = 5.0,
                 checkpoint: Optional[str] = None,
                 modules: Union[str, Sequence[str], None] = None) -> None:
        super().__init__()
        if not (is_number(loss_weight) and loss_weight >= 0):
            raise ValueError('loss_weight must be a number >= 0, but got '
                             f'{loss_weight!r}')
        self.loss_weight = loss_weight
        self.checkpoint = checkpoint
        self.modules = [modules] if isinstance(modules, str) else modules
        self._teacher: Any = None
        self._heads: List[BaseDenseHead] = []
        self._maps: Dict[str, List[Tensor]] = {}
        self._is_first = True

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self._maps = {}
        check_alone(runner, self)
        if self.loss_weight == 0:
            return
        student = unwrapped(runner.model)
        if self.modules is not None:
            _named(student, self.modules)
        try:
            path = self._path(runner)
            teacher, unfit = _float_teacher(runner, path)
            names = self.modules or _default_modules(teacher, unfit)
            _check_fit(teacher, unfit, names, path)
        except ValueError as error:
            if self.checkpoint is not None:
                raise
            runner.logger.warning(
                f'no float detector teaches this run: {error}')
            return
        device = next(student.parameters()).device
        self._teacher = teacher.to(device).eval().requires_grad_(False)
        self._heads = [
            head for name, head in _dense_heads(teacher).items() if any(
                _part(x) == name for x in names)
        ]
        for head in self._heads:
            # Some put out other maps in eval. Their norms stay there.
            head.training = True
        runner.message_hub.update_info(TEACHER, path)
        runner.logger.info(f'{", ".join(names)} of the float detector in '
                           f'{path!r} teach this run')
        for model in (student, teacher):
            for name, module in _named(model, names).items():
                self.handles.append(
                    module.register_forward_hook(self._keep(name)))
        self.handles += [
            student.register_forward_pre_hook(lambda *_: self._maps.clear()),
            student.register_forward_hook(
                lambda *call: self._add_loss(*call), with_kwargs=True)
        ]
        self._is_first = runner.iter == 0

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        self._teacher, self._heads = None, []

    def _path(self, runner: Runner) -> str:
        path = self.checkpoint
        if path is None and runner.iter > 0:
            # A resumed run's load_from is what it goes on from.
            path = runner.message_hub.runtime_info.get(TEACHER)
        elif path is None:
            path = (runner.cfg or {}).get('load_from')
        if path is None:
            raise ValueError('the run did not begin from one; write '
                             "load_from='...'" if runner.cfg else
                             'the runner has no config that names one')
        return path

    def _keep(self, name: str):

        def keep(module: nn.Module, args: tuple, output: Any) -> None:
            maps = list(_tensors(output))
            if not maps or any(x.dim() != 4 for x in maps):
                raise ValueError(
                    'modules must name what puts out feature maps (N, C, H, '
                    f'W), but {name!r} does not')
            self._maps.setdefault(name, []).extend(maps)

        return keep

    def _add_loss(self, model: nn.Module, args: tuple, kwargs: dict,
                  output: Any) -> Any:
        students, self._maps = self._maps, {}
        # Not while BatchNorm's statistics are estimated.
        if forward_mode(args, kwargs) != 'loss' or not torch.is_grad_enabled():
            return output
        with torch.no_grad():
            features = self._teacher.extract_feat(
                args[0] if args else kwargs['inputs'])
            for head in self._heads:
                head(features)
        teachers, self._maps = self._maps, {}
        for name in self.modules or ():
            _check_maps(name, students, teachers)
        distances = {
            name: _mean_distance(name, students[name], teachers[name])
            for name in students
        }
        if self._is_first:
            self._is_first = False
            if all(x.quantizer.beta == 0
                   for x in ternary_layers(model).values()):
                _warn_of_far(distances)
        loss = self.loss_weight * torch.stack(list(distances.values())).sum()
        return dict(output, loss_distillation=loss)


def _check_maps(name: str, students: Dict[str, List[Tensor]],
                teachers: Dict[str, List[Tensor]]) -> None:
    """Raise unless a module that the user named has put out maps that can
    learn."""
    if name not in students or name not in teachers:
        raise ValueError(f'modules names {name!r}, but it is no part of the '
                         'backbone, the neck or a dense head')
    if not any(x.requires_grad for x in students[name]):
        raise ValueError(
            f'modules names {name!r}, but no gradient goes through its maps: '
            'it is frozen, or within a block whose activations are '
            'checkpointed (with_cp=True), of which only the output can teach')


def _mean_distance(name: str, students: List[Tensor],
                   teachers: List[Tensor]) -> Tensor:
    shapes, others = ([tuple(x.shape) for x in maps]
                      for maps in (students, teachers))
    if shapes != others:
        raise ValueError(
            f'{name} puts out maps of other shapes in training than the float '
            f'detector in eval ({shapes[:3]}, not {others[:3]}), so it cannot '
            "be taught: give TernaryDistillationHook modules=['...'] that "
            'put out the same, or loss_weight=0')
    return torch.stack(list(map(feature_distance, students, teachers))).mean()


def _warn_of_far(distances: Dict[str, Tensor]) -> None:
    """Log which maps are far from the float detector's where both compute with
    the same weights."""
    for name, distance in distances.items():
        times = float(distance.detach())
        if times > FAR:
            print_log(
                f'the maps of {name} begin {times:.1f} times their '
                "variance away from the float detector's, so that "
                'loss_distillation drowns the other losses: were its '
                'BatchNorm statistics frozen before they fitted its weights '
                '(norm_eval=True from scratch)? Give '
                'TernaryDistillationHook loss_weight=0 then', 'current',
                logging.WARNING)


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists and tuples."""
    if torch.is_tensor(output):
        yield output
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from _tensors(part)


def _part(name: str) -> str:
    """Return which part of a detector holds the entry or module."""
    return name.partition('.')[0]


def _dense_heads(model: nn.Module) -> Dict[str, BaseDenseHead]:
    """Return the heads that make maps of the features alone, by name."""

    def takes_features_alone(head: nn.Module) -> bool:
        required = [
            x for x in signature(head.forward).parameters.values()
            if x.default is Parameter.empty
            and x.kind is Parameter.POSITIONAL_OR_KEYWORD
        ]
        return len(required) == 1

    return {
        name: head
        for name, head in model.named_children()
        if isinstance(head, BaseDenseHead) and takes_features_alone(head)
    }


def _default_modules(teacher: nn.Module, unfit: Sequence[str]) -> List[str]:
    """Return the names of what puts out features, and of the dense head that
    was loaded whole."""
    features = [
        name for name in ('backbone', 'neck')
        if isinstance(getattr(teacher, name, None), nn.Module)
    ]
    if not features:
        raise ValueError(f'{type(teacher).__name__} has neither neck nor '
                         'backbone')
    return features + [
        name
        for name in _dense_heads(teacher) if name not in map(_part, unfit)
    ]


def _check_fit(teacher: nn.Module, unfit: Sequence[str], names: Sequence[str],
               path: str) -> None:
    """Raise unless the checkpoint has all that is compared."""
    parts = {'backbone', 'neck', *map(_part, names)}
    wrong = [name for name in unfit if _part(name) in parts]
    if wrong:
        raise ValueError(
            f'checkpoint {path!r} does not fit the config\'s '
            f'{type(teacher).__name__}: {len(wrong)} entries are missing or '
            f'have another shape, like {wrong[0]}')


def _named(model: nn.Module, names: Sequence[str]) -> Dict[str, nn.Module]:
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            raise ValueError(
                f'modules names {name!r}, but {type(model).__name__} has no '
                'such module, only '
                f'{", ".join(n for n, _ in model.named_children())} and what '
                'lies in them')
    return {name: modules[name] for name in names}


def _float_teacher(runner: Runner, path: str) -> Tuple[nn.Module, List[str]]:
    """Return the run's detector in float with the weights in ``path``, and
    the entries that are missing there or have another shape."""
    cfg = runner.cfg or {}
    if not isinstance(cfg.get('model'), dict):
        raise ValueError('the runner has no config with a model=dict(...) to '
                         'build one of')
    checkpoint = read_checkpoint(path)
    trained = provenance.of_checkpoint(checkpoint['meta'])
    if trained is not None and trained.ternary:
        raise ValueError(f'{path!r} was trained as {trained}')
    teacher = build_model(
        Config(
            dict(
                model=float_config(cfg['model']),
                default_scope=cfg.get('default_scope'))))
    own = teacher.state_dict()
    left = list(ternary_layers(teacher))
    if left:
        raise ValueError("the config's float twin still has ternary layers, "
                         f'like {left[0]}')
    teacher.load_state_dict(
        {
            name: value
            for name, value in checkpoint['state_dict'].items()
            if name in own and own[name].shape == value.shape
        },
        strict=False)
    return teacher, list(provenance.misfits(teacher, checkpoint['state_dict']))
