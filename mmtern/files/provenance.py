"""What a checkpoint was trained as, and whether it belongs to a config."""
import shlex
import warnings
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from torch import nn

from ..convert import ternary_from_config, ternary_layers
from .address import names_packed
from .config import UNTRAINED, parse_config
from .errors import TernaryFileError
from .type_names import dicts_in, type_name

# Types in a model config that make a part of it ternary: wrappers, and layers
# with the types of their float twins.
WRAPPERS = ('TernDetector', 'TernBackbone', 'TernNeck')
LAYERS = dict(
    TernConv2d='Conv2d', TernConvTranspose2d='deconv', TernLinear='Linear')
# Settings that decide which layers are ternary, and those that decide what
# becomes of a latent weight in eval; all others are about gradients. Values
# that are ternary already stay as they are, but for a trained scale.
SELECTION = ('include', 'exclude', 'stem', 'predictions', 'depthwise')
QUANTIZER = ('model_sparsity', 'threshold', 'scale', 'min_sparsity')
# Entries that a checkpoint may lack: old ones do, float ones do.
OPTIONAL = ('num_batches_tracked', 'weight_scale')


@dataclass(frozen=True)
class Provenance:
    """The kind of model that a config builds or a checkpoint holds.

    Attributes:
        ternary (bool): Whether a part of it is ternary.
        detector (str): Type of the detector, unwrapped, e.g. 'RetinaNet'.
        untrained (bool): Whether a packed file's ternary weights come from a
            float checkpoint that was never trained ternary.
    """
    ternary: bool
    detector: str
    untrained: bool = False

    def __str__(self) -> str:
        return f'a {"ternary" if self.ternary else "float"} {self.detector}'


def of_config(cfg: Mapping[str, Any]) -> Optional[Provenance]:
    """Return what a config builds, or None where it has no model."""
    model = _model_of(cfg)
    if model is None:
        return None
    types = [type_name(node.get('type')) for node in dicts_in(model)]
    own = type_name(model.get('type'))
    return Provenance(
        ternary=any(x in WRAPPERS or x in LAYERS for x in types),
        detector=type_name(model.get('wrapped')) or own,
        untrained=bool(cfg.get(UNTRAINED)))


def _model_of(cfg: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    """Return a config's model, without a wrapper for a test."""
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        return None
    if type_name(model.get('type')) in ('', 'DetTTAModel'):
        model = model.get('module', model)
    return model


def of_checkpoint(meta: Mapping[str, Any]) -> Optional[Provenance]:
    """Return what a checkpoint was trained as, by the config in its ``meta``.

    Args:
        meta (Mapping): ``meta`` of a training checkpoint or a packed file;
            its ``cfg`` is a config or its text, which is read and not run.

    Returns:
        Provenance or None: None where the checkpoint does not tell.
    """
    cfg = _config_of(meta)
    return None if cfg is None else of_config(cfg)


def _config_of(meta: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    cfg = meta.get('cfg')
    if isinstance(cfg, str):
        try:
            cfg = parse_config(cfg)
        except TernaryFileError:
            return None
    return cfg if isinstance(cfg, Mapping) else None


def other_settings(cfg: Mapping[str, Any],
                   checkpoint: Mapping[str, Any],
                   path: str,
                   config: str = 'CONFIG') -> Optional[str]:
    """Return a sentence where a ternary checkpoint was trained with other
    ternary weights than a ternary config makes of it in eval, else None.

    Args:
        cfg (Mapping): The config in use.
        checkpoint (Mapping): With ``meta``.
        path (str): The checkpoint's path, to name it.
        config (str): The config's path, to name it.
    """
    own = _settings_of(cfg)
    trained = _settings_of(_config_of(checkpoint.get('meta') or {}) or {})
    if not own or not trained:
        return None
    story = f'this checkpoint was trained with other ternary settings ({path})'
    if own.keys() != trained.keys():
        return (f'{story}: ternary were {", ".join(trained)}, but of {config} '
                f'{", ".join(own)}; name the config that it was trained with')
    packed = names_packed(path)
    other = {
        f'{place}.ternary.{key}': (value, own[place][key])
        for place, settings in trained.items()
        for key, value in settings.items()
        if _changes(key, value, own[place][key], packed)
    }
    if not other:
        return None
    told = ', '.join(f'{key}={value!r}, and here it is {mine!r}'
                     for key, (value, mine) in other.items())
    options = as_options({key: value for key, (value, _) in other.items()})
    return f'{story}: {told}; write {options} to use {config} with it'


def _settings_of(cfg: Mapping[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Return the settings of all ternary parts of a config that decide its
    result in eval, defaults filled in, by the part's place; none where they
    cannot be understood."""
    found = {}
    for place, node in _parts(_model_of(cfg), 'model'):
        kind = type_name(node.get('type'))
        if kind in WRAPPERS or kind in LAYERS:
            try:
                scope, settings = ternary_from_config(node.get('ternary'))
            except (ValueError, TypeError):
                return {}
            values = {**vars(scope), **vars(settings)}
            found[place] = {key: values[key] for key in SELECTION + QUANTIZER}
    return found


def _parts(node: Any, place: str) -> Iterator[Tuple[str, Mapping[str, Any]]]:
    children: Any = ()
    if isinstance(node, Mapping):
        yield place, node
        children = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    for key, child in children:
        yield from _parts(child, f'{place}.{key}')


def _changes(key: str, trained: Any, own: Any, packed: bool) -> bool:
    """Return whether another value of a setting changes a result in eval."""
    if isinstance(trained, (list, tuple)) and isinstance(own, (list, tuple)):
        return list(trained) != list(own)
    if packed and key in QUANTIZER:
        return key == 'scale' and trained != own and 'ttq' in (trained, own)
    return trained != own


def as_options(settings: Mapping[str, Any]) -> str:
    """Return settings as ``--cfg-options`` for a shell, or '' for none.

    Args:
        settings (Mapping): Dotted keys of a config, and their values.
    """
    words = [
        shlex.quote(f'{key}={_as_option(value)}')
        for key, value in settings.items()
    ]
    return ' '.join(['--cfg-options', *words]) if words else ''


def _as_option(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        inner = ','.join(map(_as_option, value))
        return f'[{inner}]' if isinstance(value, list) else f'({inner})'
    return str(value)


def warning(cfg: Mapping[str, Any],
            checkpoint: Mapping[str, Any],
            path: str,
            config: str = 'CONFIG') -> Optional[str]:
    """Return a warning where a checkpoint fits a config's tensors but not its
    arithmetic, or None where they belong together or nobody can tell.

    Args:
        cfg (Mapping): The config in use.
        checkpoint (Mapping): With ``meta``.
        path (str): The checkpoint's path, to name it.
        config (str): The config's path, to name it.
    """
    own = of_config(cfg)
    trained = of_checkpoint(checkpoint.get('meta') or {})
    if own is None or trained is None:
        return None
    if trained.untrained:
        return untrained_sentence(path)
    if own.ternary and not trained.ternary:
        return (f'this checkpoint was trained in float ({path}); ternarized '
                'untrained it loses most of its AP; train '
                f'{config} with load_from={path} first')
    # A packed file holds ternary values, which a float model computes with
    # as they are.
    if trained.ternary and not own.ternary and not names_packed(path):
        return (f'this checkpoint was trained ternary ({path}), but {config} '
                'computes with its latent weights in float, which loses most '
                'of its AP; use the ternary config')
    return other_settings(cfg, checkpoint, path, config)


def other_classes(detector: Mapping[str, Any], dataset: Mapping[str, Any],
                  path: str) -> Optional[str]:
    """Return a sentence where a detector counts its classes in another way
    than the data set that it is tested on, so that its AP means nothing; else
    None.

    Args:
        detector (Mapping): Meta of the data set that it was trained on, keys
            in any case.
        dataset (Mapping): Meta of the data set of the test.
        path (str): The detector's file, to name it.
    """
    own, tested = ({
        str(key).lower(): value
        for key, value in meta.items()
    }.get('classes') or () for meta in (detector, dataset))
    if not own or not tested or list(own) == list(tested):
        return None
    story = f'{path} was made for other classes than the test data set has'
    if len(own) != len(tested):
        return f'{story}: {len(own)}, not {len(tested)}'
    index = [a == b for a, b in zip(own, tested)].index(False)
    return (f'{story}: number {index} is {own[index]!r}, not '
            f'{tested[index]!r}')


def untrained_sentence(path: str) -> str:
    """Return the warning about a packed file whose ternary weights were never
    trained."""
    return (f'{path} holds the ternarized weights of a float checkpoint that '
            'was never trained ternary, so it has lost most of its AP; train '
            'the ternary config with load_from and export its checkpoint')


def warn_if_untrained(config_text: str, path: str) -> None:
    """Warn, once for each place in the code, where a packed file's own config
    says that its ternary weights were never trained.

    Args:
        config_text (str): The config in the file.
        path (str): The file's path, to name it.
    """
    packed = of_checkpoint(dict(cfg=config_text))
    if packed is not None and packed.untrained:
        warnings.warn(untrained_sentence(path), stacklevel=3)


def check_fit(model: nn.Module, checkpoint: Mapping[str, Any],
              path: str) -> None:
    """Refuse a checkpoint of another model, of which mmengine would load a
    part.

    Args:
        model (nn.Module): The model that is to take its weights.
        checkpoint (Mapping): With ``state_dict`` and ``meta``.
        path (str): The checkpoint's path, to name it.

    Raises:
        ValueError: If the checkpoint lacks one of the model's entries, or
            holds one in another shape.
    """
    wrong = misfits(model, checkpoint['state_dict'])
    if wrong:
        trained = of_checkpoint(checkpoint.get('meta') or {})
        story = f' was trained as {trained} and' if trained else ''
        name = next(iter(wrong))
        raise ValueError(
            f'checkpoint {path!r}{story} does not fit the config\'s '
            f'{type(model).__name__}: {len(wrong)} of '
            f'{len(model.state_dict())} entries are missing or have another '
            f'shape, like {name} ({wrong[name]}); name the config that it was '
            'trained with')


def layers_left_out(model: nn.Module, checkpoint: Mapping[str, Any],
                    path: str) -> Optional[str]:
    """Return a sentence where a checkpoint lacks ternary layers of a model, or
    holds them in another shape, as that of another detector does; else None.

    Args:
        model (nn.Module): That takes the checkpoint's weights.
        checkpoint (Mapping): With ``state_dict`` and ``meta``.
        path (str): The checkpoint's path, to name it.
    """
    wrong = misfits(model, checkpoint['state_dict'])
    layers = ternary_layers(model)
    left = [
        name for name, layer in layers.items()
        if f'{name}.{layer.latent_name}' in wrong
    ]
    if not left:
        return None
    trained = of_checkpoint(checkpoint.get('meta') or {})
    return (f'{path}{f" ({trained})" if trained else ""} holds no fitting '
            f'weights for {len(left)} of {len(layers)} ternary layers, like '
            f'{left[0]}')


def misfits(model: nn.Module, state: Mapping[str, Any]) -> Dict[str, str]:
    """Return the entries of a model that a state dict lacks ('missing') or
    holds in another shape ('(3, 4), not (4, 4)'), by name."""
    given = {
        k[7:] if k.startswith('module.') else k: v
        for k, v in state.items()
    }
    wrong = {}
    for name, tensor in model.state_dict().items():
        if name.endswith(OPTIONAL):
            continue
        if name not in given:
            wrong[name] = 'missing'
        elif given[name].shape != tensor.shape:
            wrong[name] = (f'{tuple(given[name].shape)}, not '
                           f'{tuple(tensor.shape)}')
    return wrong
