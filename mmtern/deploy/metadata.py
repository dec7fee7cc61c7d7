"""What a file says of itself: classes, and how to make an image fit."""
import inspect
import json
from typing import Any, Dict, List, NoReturn, Optional, Sequence

from mmdet.registry import TRANSFORMS
from mmengine.config import Config

from ..files.type_names import type_name
from ..version import __version__

KEY = 'mmtern'
# Transforms that leave the pixels as they are.
_NO_CHANGE = ('LoadAnnotations', 'LoadEmptyAnnotations', 'PackDetInputs')
# Of others the settings that are read here, or leave the pixels as they are.
_LOADING = ('color_type', 'ignore_empty', 'backend_args', 'file_client_args')
_KNOWN = dict(
    LoadImageFromFile=_LOADING,
    LoadImageFromNDArray=_LOADING,
    Resize=('scale', 'keep_ratio', 'clip_object_border'),
    Pad=('size', 'size_divisor', 'pad_to_square', 'pad_val'))


def describe(model: Any, classes: Sequence[str], **facts: Any) -> None:
    """Write a description into the metadata of an ONNX model."""
    entry = model.metadata_props.add()
    entry.key = KEY
    entry.value = json.dumps(
        dict(version=__version__, classes=list(classes), **facts))


def description_of(metadata: Dict[str, str]) -> Dict[str, Any]:
    """Return the description that mmtern wrote into a file's metadata; it is
    empty for other files."""
    return json.loads(metadata.get(KEY, '{}'))


def class_names(dataset_meta: Dict[str, Any],
                count: Optional[int]) -> List[str]:
    """Return the class names from a data set's meta.

    Args:
        dataset_meta (dict): With a list or tuple ``classes``.
        count (int, optional): Number of classes of the detector's head.

    Raises:
        ValueError: If they are no names, or not as many.
    """
    meta = {key.lower(): value for key, value in dataset_meta.items()}
    classes = meta.get('classes') or ()
    if (not isinstance(classes, (list, tuple))
            or not all(isinstance(name, str) for name in classes)):
        raise ValueError('classes must be a list or tuple of names, but the '
                         f'data set has classes={classes!r}')
    if count is not None and len(classes) != count:
        raise ValueError(f'the data set names {len(classes)} classes, but the '
                         f'detector has {count}')
    return list(classes)


def input_rules(cfg: Config, channels: int) -> Dict[str, Any]:
    """Return how the config's test pipeline makes an image fit.

    Args:
        cfg (Config): With a test pipeline.
        channels (int): Of an image.

    Returns:
        dict: ``resize``: None, or a mode ('edges': long and short edge within
        ``scale``, the aspect ratio kept; 'stretch': to ``scale``) and a
        ``scale`` (width, height) in pixels. ``pad``: None, or ``size`` (width,
        height), ``divisor`` or ``square``, and ``value``, the byte to pad
        with at the right and the bottom.

    Raises:
        ValueError: If the pipeline does anything else to the pixels.
    """
    rules: Dict[str, Any] = dict(resize=None, pad=None)
    for transform in test_pipeline(cfg):
        kind = type_name(transform['type'])
        if kind in _NO_CHANGE:
            continue
        _check_settings(kind, transform)
        if kind in ('LoadImageFromFile', 'LoadImageFromNDArray'):
            color = transform.get('color_type', 'color')
            if color != 'color' and (color, channels) != ('grayscale', 1):
                _unknown(transform)
        elif kind == 'Resize' and rules['resize'] is None and not rules['pad']:
            scale = transform.get('scale')
            if isinstance(scale, int):
                scale = (scale, scale)
            if scale is None:
                _unknown(transform)
            keep = transform.get('keep_ratio', False)
            rules['resize'] = dict(
                mode='edges' if keep else 'stretch', scale=list(scale))
        elif kind == 'Pad' and rules['pad'] is None:
            value = transform.get('pad_val', 0)
            if isinstance(value, dict):
                value = value.get('img', 0)
            if isinstance(value, (list, tuple)):
                if len(set(value)) != 1:
                    _unknown(transform)
                value = value[0]
            size = transform.get('size')
            rules['pad'] = dict(
                size=list(size) if size else None,
                divisor=transform.get('size_divisor'),
                square=bool(transform.get('pad_to_square', False)),
                value=int(value))
        else:
            _unknown(transform)
    return rules


def check_input_size(rules: Dict[str, Any], size: Sequence[int]) -> None:
    """Refuse a size of all images that is too small for the pipeline's.

    Args:
        rules (dict): Of :func:`input_rules`.
        size (Sequence[int]): Height and width in pixels.

    Raises:
        ValueError: If no image of the largest size fits, whichever way it is
            turned.
    """
    resize, pad = rules['resize'], rules['pad'] or {}
    fixed = pad.get('size')
    if not resize and not fixed:
        return
    width, height = fixed or resize['scale']
    if pad.get('square'):
        width = height = max(width, height)
    step = pad.get('divisor') or 1
    width, height = (-(-side // step) * step for side in (width, height))
    turned = not fixed and resize['mode'] == 'edges'
    shapes = [(height, width)] + [(width, height)] * turned
    if not any(x <= size[0] and y <= size[1] for x, y in shapes):
        raise ValueError(
            'input_size must hold the test pipeline\'s images, up to '
            f'{height} x {width} pixels (height x width), but got {size[0]} x '
            f'{size[1]}; its Resize sets their scale')


def test_pipeline(cfg: Config) -> List[Dict[str, Any]]:
    """Return the transforms of the config's test data set.

    Raises:
        ValueError: If there is none.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and dataset.get('dataset'):
        dataset = dataset['dataset']
    if 'datasets' in dataset:
        dataset = dataset['datasets'][0]
    if not dataset.get('pipeline'):
        raise ValueError('the config has no test_dataloader with a pipeline, '
                         'which tells how an image is made to fit')
    return dataset['pipeline']


def _check_settings(kind: str, transform: Dict[str, Any]) -> None:
    """Refuse a transform with a setting that is not read, unless it has its
    default."""
    if kind not in _KNOWN:
        _unknown(transform)
    known = ('type', '_scope_', *_KNOWN[kind])
    defaults = inspect.signature(TRANSFORMS.get(kind).__init__).parameters
    for key in set(transform) - set(known):
        if key not in defaults or transform[key] != defaults[key].default:
            raise ValueError(
                f'the test pipeline\'s {kind} has {key}={transform[key]!r}, '
                'which tools that make an image fit do not know; --raw writes '
                'the network alone')


def _unknown(transform: Dict[str, Any]) -> NoReturn:
    raise ValueError(
        'an image is made to fit by Resize and Pad, but the test pipeline has '
        f'{dict(transform)}; --raw writes the network alone')
