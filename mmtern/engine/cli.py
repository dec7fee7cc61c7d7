"""The shared parts of the command-line tools: arguments, a checked config, and
errors in a sentence. Only tools may import this module, because its functions
end the program."""
import io
import os
import os.path as osp
import shlex
import sys
import warnings
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from contextlib import contextmanager, redirect_stdout
from glob import escape, glob
from importlib import import_module
from typing import Any, Dict, Iterator, List, NoReturn, Optional

import torch
from mmengine.config import Config, DictAction
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, OPTIMIZERS, Registry

from ..files.type_names import type_name, use_registered_names
from .building import build_model, only_warnings_logged
from .data import DATA_SECTION, check_data
from .mistakes import did_you_mean, registered_names, sentence_for
from .resume import latest_whole_checkpoint

__all__ = [
    'DATA_SECTION', 'Parser', 'add_common_arguments', 'add_config_options',
    'fail', 'import_quietly', 'in_short', 'load_config', 'mistakes_told',
    'only_warnings_logged', 'read_config', 'require_data', 'require_file',
    'require_keys', 'require_load_from', 'require_model', 'use_amp', 'warn'
]

# What mmdet says about optional packages as it is imported.
NOISE = 'Could not import OneDL. Skipping OneDL datasets.'
# What torch says of a call inside mmdet.
MESHGRID = 'torch.meshgrid: in an upcoming release'
# What the last line of a test calls the metrics of mmdet, values in [0, 1].
SHORT = {
    'coco/bbox_mAP': 'AP',
    'coco/bbox_mAP_50': 'AP50',
    'coco/segm_mAP': 'mask AP',
    'pascal_voc/mAP': 'mAP',
}
# Optimizers that cannot be built before the runner has its process group.
OF_A_GROUP = ('ZeroRedundancyOptimizer', )
# Keys of a config that need not be there to be set on the command line.
RUNNER_KEYS = ('load_from', 'resume', 'randomness', 'work_dir', 'launcher',
               'log_level', 'experiment_name', 'visualizer', 'env_cfg',
               'log_processor', 'default_scope', 'default_hooks',
               'custom_hooks', 'custom_imports', 'auto_scale_lr',
               'param_scheduler', 'model_wrapper_cfg', 'compile', 'tta_model',
               'tta_pipeline')


class Parser(ArgumentParser):
    """A parser whose errors are those of the tools: one sentence and exit
    status 1.

    Args:
        description (str, optional): What the tool does.
        example (str, optional): A command line to start from, shown by
            ``--help``.
        **kwargs: Others of ``ArgumentParser``.
    """

    def __init__(self,
                 description: Optional[str] = None,
                 example: Optional[str] = None,
                 **kwargs) -> None:
        super().__init__(
            description=description,
            epilog=f'example:\n  {example}' if example else None,
            formatter_class=RawDescriptionHelpFormatter,
            **kwargs)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        fail(f'{message}; --help lists what is accepted')


class _Options(DictAction):
    """mmengine's key=value options, with a sentence for arguments of another
    form."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes key=value, but got '
                             f'{value!r}')
        super().__call__(parser, namespace, values, option_string)


def add_config_options(parser: ArgumentParser) -> None:
    """Add ``--cfg-options``, as mmdet has it."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Options,
        metavar='KEY=VALUE',
        help='override config settings, key=value; lists as key="[a,b]"')


def add_common_arguments(parser: ArgumentParser) -> None:
    """Add mmdet's arguments that training and testing have in common."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and results go')
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher')
    # torch.distributed.launch passes it; torchrun sets the variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def fail(sentence: str) -> NoReturn:
    """End the program with one sentence and exit status 1."""
    sys.exit(f'error: {sentence}')


def warn(sentence: str) -> None:
    """Print a warning as one line on the error stream."""
    sys.stdout.flush()
    print(f'warning: {sentence}', file=sys.stderr, flush=True)


@contextmanager
def mistakes_told(subject: str = '') -> Iterator[None]:
    """End the program in a sentence where a user's mistake was the cause;
    other exceptions pass.

    Args:
        subject (str): What the sentence is about, e.g. the config's path.
    """
    try:
        yield
    except Exception as error:
        sentence = sentence_for(error)
        if sentence is None:
            raise
        fail(f'{subject}: {sentence}' if subject else sentence)


def import_quietly(*modules: str) -> None:
    """Import modules of the frameworks without their remarks on packages
    that no user needs, and let them warn no more of what only their authors
    can mend."""
    warnings.filterwarnings('ignore', MESHGRID)
    printed = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(printed):
        warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')
        for module in modules:
            import_module(module)
    for line in printed.getvalue().splitlines():
        if line != NOISE:
            print(line)


def in_short(metrics: Dict[str, float]) -> str:
    """Return a test's accuracy as one part of a line."""
    known = [
        f'{name} {100 * metrics[key]:.1f}' for key, name in SHORT.items()
        if key in metrics
    ]
    if not known:
        known = [
            f'{key} {value:.4g}' for key, value in metrics.items()
            if not key.endswith('time')
        ]
    # mmdet leaves nothing of a metric without a single detection.
    return ', '.join(known) or 'nothing detected'


def load_config(args: Namespace) -> Config:
    """Read the config and merge the command line into it.

    The work directory is, in this order, ``--work-dir``, the config's, or
    ``work_dirs/<config's name>``, as in mmdet.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def read_config(name: str, options: Optional[dict]) -> Config:
    """Read a config or fail in a sentence.

    Args:
        name (str): A file, or a config of an installed package as
            ``package::folder/file.py``.
        options (dict, optional): Settings of ``--cfg-options``.
    """
    _, hub, path = name.partition('::')
    if not hub and not osp.isfile(name):
        names = [osp.basename(path) for path in _configs_beside(name)]
        fail(f'config {name!r} does not exist'
             f'{did_you_mean(osp.basename(name), names)}')
    if hub and '/' not in path:
        # mmengine's own sentence names neither the config nor the folder.
        fail(f'config {name!r} lacks its folder, as in '
             'mmtern::configs/NAME.py or mmdet::retinanet/NAME.py')
    try:
        cfg = get_config(name) if hub else Config.fromfile(name)
    except Exception as error:
        # A config is the user's program: whatever it raises is theirs.
        told = ' '.join(str(error).split())[:600] or 'no reason given'
        fail(f'config {name!r} cannot be read: '
             f'{type(error).__name__}: {told}')
    use_registered_names(list(cfg.values()))
    if options is not None:
        _merge_options(cfg, options)
    return cfg


# Keys of configs/_base_/ternary*.py, and where configs put their values.
RECIPE = dict(
    ternary_hooks='default_hooks',
    ternary_optim_wrapper='optim_wrapper',
    ternary_backbone='model.backbone')


def _merge_options(cfg: Config, options: dict) -> None:
    for key in options:
        first, *rest = key.split('.')
        if first in RECIPE:
            fail(f'--cfg-options sets {key!r}, which a config only takes its '
                 'values from while it is read: write '
                 f'{".".join([RECIPE[first], *rest])}=...')
        hint = did_you_mean(first, list(cfg))
        if first not in cfg and first not in RUNNER_KEYS and hint:
            # Not any unknown key: a config may read names of its own.
            fail(f'--cfg-options sets {key!r}, but the config has no '
                 f'{first!r}{hint}')
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError, ValueError, IndexError,
            AssertionError) as error:
        keys = ', '.join(options)
        fail(f'--cfg-options {keys} cannot be merged into the config: '
             f'{" ".join(str(error).split())[:300]}')


def _configs_beside(path: str) -> List[str]:
    return glob(osp.join(escape(osp.dirname(path) or '.'), '*.py'))


def require_keys(cfg: Config, config: str, *keys: str) -> None:
    """Fail unless the config has these keys."""
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        fail(f'{config} lacks {", ".join(missing)}; a config in _base_ '
             'folders is a part of one, name the config that inherits it')


def require_model(cfg: Config,
                  config: str,
                  training: bool = False) -> torch.nn.Module:
    """Build the config's model, and for a training its optimizer and our
    hooks, for their mistakes to be told before a runner fills the screen.

    Returns:
        nn.Module: The model, with weights as constructed.
    """
    # The runner builds it again and logs about it then.
    with mistakes_told(config), only_warnings_logged():
        model = build_model(cfg)
        if training:
            _check_hooks(cfg)
            _check_optimizer(cfg, model)
    return model


def _check_hooks(cfg: Config) -> None:
    hooks = list(cfg.get('custom_hooks') or [])
    hooks += (cfg.get('default_hooks') or {}).values()
    for hook in hooks:
        kind = hook.get('type') if isinstance(hook, dict) else None
        _check_registered(HOOKS, kind)
        if type_name(kind).startswith('Ternary'):
            # The runner takes its priority out before it builds a hook.
            HOOKS.build({k: v for k, v in hook.items() if k != 'priority'})


def _check_optimizer(cfg: Config, model: torch.nn.Module) -> None:
    if 'constructor' in cfg.optim_wrapper:
        return  # one of several optimizers, or the user's own
    optimizer = cfg.optim_wrapper.get('optimizer')
    if not isinstance(optimizer, dict):
        raise ValueError('optim_wrapper needs optimizer=dict(type=...), but '
                         f'got {optimizer!r}')
    _check_registered(OPTIMIZERS, optimizer.get('type'))
    if type_name(optimizer.get('type')) not in OF_A_GROUP:
        build_optim_wrapper(model, cfg.optim_wrapper)


def _check_registered(registry: Registry, kind: Any) -> None:
    with registry.switch_scope_and_registry(None) as found:
        if isinstance(kind, str) and found.get(kind) is None:
            raise ValueError(
                f'the config names {kind!r}, which is no registered '
                f'{found.name}{did_you_mean(kind, registered_names())}')


def use_amp(cfg: Config) -> None:
    """Train in mixed precision: float16 on CUDA, bfloat16 on the CPU."""
    if torch.cuda.is_available():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    else:
        cfg.optim_wrapper.type = 'CPUAmpOptimWrapper'
        # What a config for a GPU may hold.
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)


def require_data(cfg: Config, *loaders: str) -> None:
    """Fail unless the files that these dataloaders read are there."""
    try:
        check_data(cfg, *loaders)
    except FileNotFoundError as error:
        fail(str(error))


def require_file(path: Optional[str], argument: str) -> None:
    """Fail unless ``path`` is a file (or lies behind a URL scheme)."""
    if path and '://' not in path and not osp.isfile(path):
        fail(f'{argument} {path!r} does not exist')


def require_load_from(path: Optional[str], config: str) -> None:
    """Fail unless ``load_from`` is there, and say what makes it."""
    if not path or '://' in path or osp.isfile(path):
        return
    name = f'{osp.basename(osp.dirname(path))}.py'
    remedy = ''
    source = osp.join(osp.dirname(config), name)
    if osp.isfile(source):
        remedy = f'; "python tools/train.py {shlex.quote(source)}" makes it'
    for found in sorted(
            glob(osp.join('work_dirs', '**', name), recursive=True)):
        checkpoint = latest_whole_checkpoint(osp.dirname(found))
        if checkpoint:
            remedy += (f', or use what is there: --cfg-options load_from='
                       f'{osp.relpath(checkpoint)}')
            break
    fail(f'load_from {path!r} does not exist{remedy}')
