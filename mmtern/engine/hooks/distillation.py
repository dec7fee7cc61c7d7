"""The hook that teaches a ternary detector the features of the float detector
that it began from."""
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...checks import is_number
from ...files import provenance
from ...models import float_config
from ..building import build_model
from ..checkpoints import read_checkpoint
from ..distributed import unwrapped
from .runner_checks import check_alone, forward_mode

# Where a run keeps the teacher's path, so that a resumed one finds it.
TEACHER = 'ternary/teacher'
# Take the features of an image and put out maps.
DENSE_HEADS = ('bbox_head', 'rpn_head')


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance between two feature maps, relative to the
    teacher's variance: 0 where they are equal, 1 for a map that knows nothing
    but each channel's mean.

    Args:
        student (Tensor): Shape (N, C, H, W), any float dtype.
        teacher (Tensor): Likewise.

    Returns:
        Tensor: A scalar, float32.
    """
    student, teacher = student.float(), teacher.float()
    mean = teacher.mean((0, 2, 3), keepdim=True)
    variance = (teacher - mean).square().mean()
    return (student - teacher).square().mean() / variance.clamp(min=1e-12)


@HOOKS.register_module()
class TernaryDistillationHook(Hook):
    """Adds the distance between the detector's features and those of the
    float detector that it began from to the losses, as ``loss_distillation``:
    ``loss_weight`` times the mean of :func:`feature_distance` over the feature
    maps that ``modules`` put out.

    Labels say what is in an image, at a few anchors; the float detector's
    features say at each position what is to be computed there, also of what
    no label names. Ternary weights lose that first.

    The teacher is the run's own detector without its ternary wrapper, in
    eval, without gradient. It sees the student's batch, its backbone and neck
    only, and is no part of the model: state dicts stay as they are. Its path
    is kept in the run's checkpoints, so that a resumed run has the same one.
    A run that does not begin from a float detector goes without a teacher,
    and says so in its log.

    Source: hints of a teacher's features, Romero et al., "FitNets", arXiv
    1412.6550, from float to quantized weights as in Polino et al., arXiv
    1802.05668; the weighting by variance is ours.

    Args:
        loss_weight (float): Defaults to 5; 0 takes no teacher.
        checkpoint (str, optional): Of the trained float detector, which must
            fit then. Defaults to None, the run's ``load_from``.
        modules (str or Sequence[str], optional): Names of modules within the
            backbone or neck whose outputs are compared: feature maps (N, C,
            H, W), or tuples of them. Defaults to None, the neck, or the
            backbone of a detector without one.

    Raises:
        ValueError: For another value of an argument; when training begins,
            if a named module is not there, or ``checkpoint`` is no float
            detector with this backbone and neck.
    """

    def __init__(self,
                 loss_weight: float = 5.0,
                 checkpoint: Optional[str] = None,
                 modules: Union[str, Sequence[str], None] = None) -> None:
        if not (is_number(loss_weight) and loss_weight >= 0):
            raise ValueError('loss_weight must be a number >= 0, but got '
                             f'{loss_weight!r}')
        self.loss_weight = loss_weight
        self.checkpoint = checkpoint
        self.modules = [modules] if isinstance(modules, str) else modules
        self._teacher: Any = None
        self._maps: Dict[str, List[Tensor]] = {}
        self._handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        check_alone(runner, self)
        if self.loss_weight == 0:
            return
        student = unwrapped(runner.model)
        names = self.modules or _last_features(student)
        students = _named(student, names)
        try:
            path = self._path(runner)
            teacher = _float_teacher(runner, path)
        except ValueError as error:
            if self.checkpoint is not None:
                raise
            runner.logger.warning(
                f'features are not distilled from a float detector: {error}')
            return
        device = next(student.parameters()).device
        self._teacher = teacher.to(device).eval().requires_grad_(False)
        runner.message_hub.update_info(TEACHER, path)
        for named in (students, _named(teacher, names)):
            for name, module in named.items():
                self._handles.append(
                    module.register_forward_hook(self._keep(name)))
        self._handles += [
            student.register_forward_pre_hook(self._forget),
            student.register_forward_hook(self._add_loss, with_kwargs=True)
        ]

    def after_train(self, runner: Runner) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._teacher = None

    def _path(self, runner: Runner) -> str:
        path = self.checkpoint
        if path is None and runner.iter > 0:
            # A resumed run's load_from is what it goes on from.
            path = runner.message_hub.runtime_info.get(TEACHER)
        elif path is None:
            path = (runner.cfg or {}).get('load_from')
        if path is None:
            raise ValueError('the run did not begin from one; write '
                             "load_from='...'")
        return path

    def _forget(self, model: nn.Module, args: tuple) -> None:
        self._maps = {}

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
            for name in students:
                if name in DENSE_HEADS:
                    getattr(self._teacher, name)(features)
        teachers, self._maps = self._maps, {}
        for name in students:
            if name not in teachers:
                raise ValueError(
                    f'modules names {name!r}, but it is no part of what '
                    'extracts the features of an image, the backbone and the '
                    'neck')
        loss = self.loss_weight * sum(
            torch.stack([
                feature_distance(*pair)
                for pair in zip(students[name], teachers[name])
            ]).mean() for name in students)
        return dict(output, loss_distillation=loss)


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists and tuples."""
    if torch.is_tensor(output):
        yield output
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from _tensors(part)


def _last_features(model: nn.Module) -> List[str]:
    """Return the name of what puts out the features that heads see."""
    names = [
        name for name in ('neck', 'backbone')
        if isinstance(getattr(model, name, None), nn.Module)
    ]
    return names[:1]


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


def _float_teacher(runner: Runner, path: str) -> nn.Module:
    """Return the run's detector in float, with the weights in ``path``."""
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
    # Predictions may be of other classes: only features are compared.
    wrong = [
        name for name in provenance.misfits(teacher, checkpoint['state_dict'])
        if name.startswith(('backbone.', 'neck.'))
    ]
    if wrong:
        raise ValueError(
            f'checkpoint {path!r} does not fit the backbone and neck of the '
            f'config\'s {type(teacher).__name__}: {len(wrong)} entries are '
            f'missing or have another shape, like {wrong[0]}')
    own = teacher.state_dict()
    teacher.load_state_dict(
        {
            name: value
            for name, value in checkpoint['state_dict'].items()
            if name in own and own[name].shape == value.shape
        },
        strict=False)
    return teacher
