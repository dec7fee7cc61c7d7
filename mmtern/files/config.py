"""The config in a packed file: a text of plain literals, which is parsed and
never run, and which may name neither commands nor files.

Building from a config runs what it names. mmengine's registries import any
dotted name that they do not know, mmcv's ``batched_nms`` evaluates the name of
its operator, data sets read their classes from a file or an address, and some
models fetch others. So a config that came with weights is searched for names
that nobody registered. Whatever would read, write or fetch when the detector
is built is refused or taken out.
"""
import ast
import copy
import math
import re
import sys
from typing import (Any, Dict, FrozenSet, Iterator, List, Mapping, Optional,
                    Sequence, Set, Tuple)

from mmengine.config import Config
from torch import nn

from .errors import TernaryFileError
from .type_names import (TYPE_KEYS, dicts_in, import_mmdet_parts,
                         imported_object, registries, type_name,
                         use_registered_names)

_PLAIN = (str, int, float, bool, type(None))
_NOT_FINITE = ('inf', '-inf', 'nan')

TRUST = 'load_detector(path, trust_config=True) loads it all the same'

# Beside types, keys whose value a registry looks up. Some are names in
# mmengine's runner only, where other keys of the same name hold words of
# another kind.
_FUNCTIONS = ('constructor', 'collate_fn', 'worker_init_fn', 'check_fn',
              'auto_wrap_policy', 'param_init_fn', 'policy')
_SCOPES = ('_scope_', 'default_scope')

# What is built to detect, and the kinds of registries that build it.
_MODEL = frozenset(('model', 'task util', 'weight initializer'))
_DATA = frozenset(('dataset', 'transform', 'data sampler', 'function'))
_BUILT: Dict[str, FrozenSet[str]] = dict(
    model=_MODEL,
    tta_model=_MODEL,
    data_preprocessor=_MODEL,
    visualizer=frozenset(('visualizer', 'vis_backend')),
    test_dataloader=_DATA,
    test_pipeline=_DATA,
    tta_pipeline=_DATA)
# Set in a config that is packed with weights that never were trained ternary.
UNTRAINED = 'packed_untrained'
# All of a config that a packed file holds: how a detector was trained, on
# which data, and where it was logged stays with its owner.
_KEPT = (*_BUILT, 'default_scope', 'custom_imports', UNTRAINED)
# The runner builds what these end in, and the rest of its arguments. All
# other names of a config are variables that the config itself has used.
_RUN = re.compile(r'.*(_dataloader|_evaluator|_cfg|_hooks)|optim_wrapper|'
                  'param_scheduler|log_processor|strategy|runner_type|'
                  'default_scope')

# Types that mmcv and mmdet tell apart without a registry.
_WORDS = frozenset(
    ('nms', 'soft_nms', 'nms_match', 'nms_rotated', 'nms_quadri', 'dilation',
     'offset', 'conv', 'last_conv', 'interpolation_conv', 'worker_init_fn'))
# Albu finds the types below it in albumentations.
_ALBU = '(Albu)'
# These fetch or read a model of their own when they are built.
_FETCHING = frozenset(('BertModel', 'ATSSVLFusionHead', 'Detectron2Wrapper',
                       'AppearanceFreeLink', 'RandomSamplingNegPos'))
_FILES = frozenset(('teacher_config', 'teacher_ckpt', 'lang_model_name',
                    'tokenizer_name', 'label_map_file', 'rfstructure_file'))
# Data sets of mmdet that read nothing before their data are asked for.
_LAZY_DATASETS = frozenset(
    ('BaseDetDataset', 'CityscapesDataset', 'CocoDataset',
     'DeepFashionDataset', 'LVISDataset', 'LVISV05Dataset', 'LVISV1Dataset',
     'Objects365V1Dataset', 'Objects365V2Dataset', 'VOCDataset',
     'WIDERFaceDataset', 'XMLDataset', 'iSAIDDataset'))


def config_to_text(cfg: Config, classes: Sequence[str] = ()) -> str:
    """Return what detecting needs of a config, with its bases merged, as
    Python assignments.

    What tells of its owner is left out: the training, data sets, file
    backends and backends of the visualizer, with their paths and passwords.

    Args:
        cfg (Config): Of a detector; it stays as it is.
        classes (Sequence[str]): Names for the empty data set that holds the
            test pipeline.

    Raises:
        TernaryFileError: If what is needed is more than literals, or there is
            no model.
    """
    kept = {k: v for k, v in cfg.to_dict().items() if k in _KEPT}
    values = parse_config(render_config(kept))
    use_registered_names(values)
    _forget_pretrained(values)
    loader = values.get('test_dataloader')
    if isinstance(loader, dict) and 'dataset' in loader:
        loader['dataset'] = _empty_dataset(loader['dataset'], classes)
    _detach(values, classes)
    return render_config(values)


def safe_config(text: str, classes: Tuple[str, ...],
                trust_config: bool) -> str:
    """Check the config text of a file and return it rendered anew, so that
    nothing between the lines is handed on.

    Args:
        text (str): Config text of any origin.
        classes (tuple): Class names in the file.
        trust_config (bool): Accept any name; pretrained checkpoints are taken
            out all the same.

    Raises:
        TernaryFileError: If the text is no plain config, or names what no
            registry of mmengine, mmcv, mmdet, mmtern or of a package imported
            before holds, wants something imported that is not, or would open
            a file or an address when a detector is built from it.
    """
    values = parse_config(text)
    try:
        use_registered_names(values)
        _forget_pretrained(values)
        if not trust_config:
            _detach(values, classes)
            _refuse_strange(values)
        return render_config(values)
    except RecursionError:
        raise TernaryFileError('its config is nested too deeply') from None


def render_config(values: Dict[str, Any]) -> str:
    """Return values as config text, one assignment a line; the inverse of
    :func:`parse_config`.

    Raises:
        TernaryFileError: If a value is no plain literal.
    """
    text = ''.join(f'{name} = {_render(value, name)}\n'
                   for name, value in values.items())
    # An escaped brace of the text that was read is a plain one here.
    _refuse_placeholders(text)
    return text


def _render(value: Any, where: str) -> str:
    if isinstance(value, dict):
        pairs = (f'{_render(key, where)}: {_render(child, f"{where}.{key}")}'
                 for key, child in value.items())
        return '{' + ', '.join(pairs) + '}'
    if isinstance(value, (list, tuple)):
        children = [_render(child, where) for child in value]
        if isinstance(value, list):
            return '[' + ', '.join(children) + ']'
        return '(' + ''.join(f'{child}, ' for child in children) + ')'
    if isinstance(value, set) and value:
        return '{' + ', '.join(sorted(_render(v, where) for v in value)) + '}'
    if isinstance(value, float) and not math.isfinite(value):
        return f'float({str(value)!r})'
    if type(value) is int and value.bit_length() > 64:
        # Python itself writes none of more than 4300 digits.
        raise TernaryFileError(
            'its config is not made of plain literals: '
            f'{where} holds a number of {value.bit_length()} bits')
    if type(value) not in _PLAIN:
        raise TernaryFileError(
            'its config is not made of plain literals: '
            f'{where} holds a {type(value).__name__}, {repr(value)[:80]}')
    return repr(value)


def model_to_build(cfg: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a copy of a config's ``model``, to be built: mmdet's DETRs write
    into theirs. It has the ``data_preprocessor`` that stands beside it, as
    mmengine's runner hands it over."""
    model = copy.deepcopy(cfg['model'])
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor',
                         copy.deepcopy(cfg['data_preprocessor']))
    return model


def parse_config(text: str) -> Dict[str, Any]:
    """Return the values of a config text; it is parsed and not run.

    Accepted is ``name = literal``, where ``dict(key=literal)`` and
    ``float('inf')`` are literals. mmengine would run the text as Python, fill
    in ``{{ }}`` and follow ``_base_``.

    Raises:
        TernaryFileError: If the text holds anything else, or no model.
    """
    _refuse_placeholders(text)
    values: Dict[str, Any] = {}
    where = 'the text'
    try:
        for statement in ast.parse(text).body:
            where = f'line {statement.lineno}'
            where, value = _target(statement, where)
            values[where] = _literal(value, where)
        # mmengine keeps some names for itself.
        where = 'the whole'
        Config(values)
    except (SyntaxError, ValueError, TypeError, KeyError, AttributeError,
            RecursionError, MemoryError) as error:
        if isinstance(error, TernaryFileError):
            raise
        # Bad nesting, keys that have no hash, numbers of too many digits.
        raise _not_plain(where) from None
    if not isinstance(values.get('model'), dict):
        raise TernaryFileError('its config holds no model, a dict')
    return values


def _refuse_placeholders(text: str) -> None:
    if '{{' in text:
        raise TernaryFileError('its config is not made of plain literals: it '
                               'holds "{{", which mmengine fills in')


def _not_plain(where: str) -> TernaryFileError:
    return TernaryFileError(
        f'its config is not made of plain literals: {where} holds more')


def _target(statement: ast.stmt, where: str) -> Tuple[str, ast.expr]:
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise _not_plain(where)
    target = statement.targets[0]
    # ``dict = 5`` would change the meaning of what follows. mmengine gives
    # names that begin with a line a meaning of their own.
    if not isinstance(target, ast.Name) or target.id in (
            'dict', 'float') or target.id.startswith('_'):
        raise _not_plain(where)
    return target.id, statement.value


def _literal(node: ast.AST, where: str) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in _PLAIN:
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind([_literal(child, where) for child in node.elts])
    if isinstance(node, ast.Dict):
        # A key of None stands for ``**other``.
        keys = [key and _literal(key, where) for key in node.keys]
        if None in node.keys:
            raise _not_plain(where)
        return _dict(keys, node.values, where)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == 'dict' and not node.args and all(
                keyword.arg for keyword in node.keywords):
            keys = [keyword.arg for keyword in node.keywords]
            return _dict(keys, [keyword.value for keyword in node.keywords],
                         where)
        if node.func.id == 'float' and len(
                node.args) == 1 and not node.keywords:
            value = _literal(node.args[0], where)
            if value in _NOT_FINITE:
                return float(value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand, where)
        if type(value) in (int, float):
            return -value
    raise _not_plain(where)


def _dict(keys: List[Any], nodes: Sequence[ast.AST],
          where: str) -> Dict[Any, Any]:
    if len(set(keys)) != len(keys):
        raise _not_plain(where)
    return {
        key: _literal(node, f'{where}.{key}')
        for key, node in zip(keys, nodes)
    }


def _refuse_strange(config: Dict[str, Any]) -> None:
    """Refuse what could run a command or open a file.

    Args:
        config (dict): After :func:`_detach`.
    """
    _refuse_imports(config.get('custom_imports'))
    for name, value in config.items():
        kinds = _BUILT.get(name)
        for where, key, child in _walk({name: value}):
            built = kinds is not None or (_RUN.fullmatch(name) is not None
                                          and _ALBU not in where)
            _refuse_name(where, key, child, kinds, built)
            if kinds is not None:
                _refuse_opening(where, key, child, kinds is _MODEL)


def _walk(node: Any, where: str = '') -> Iterator[Tuple[str, Any, Any]]:
    """Yield place, key and value of everything in a config; items of a list
    have the list's key."""
    if isinstance(node, dict):
        if type_name(node.get('type')) == 'Albu':
            where += _ALBU
        for key, child in node.items():
            place = f'{where}.{key}' if where else str(key)
            yield place, key, child
            yield from _walk(child, place)
    elif isinstance(node, (list, tuple, set)):
        for child in node:
            if not isinstance(child, (dict, list, tuple, set)):
                yield where, where.rpartition('.')[2], child
            yield from _walk(child, where)


def _refuse(where: str, value: Any, reason: str) -> None:
    raise TernaryFileError(f'its config has {repr(value)[:80]} as '
                           f'{where[-80:]}, {reason}; {TRUST}')


def _refuse_imports(custom_imports: Any) -> None:
    if custom_imports is None:
        return
    names = custom_imports
    if isinstance(names, dict):
        names = names.get('imports') or []
    names = [names] if isinstance(names, str) else names
    for name in names:
        # Imported already, it runs nothing any more.
        if not isinstance(name, str) or name not in sys.modules:
            _refuse('custom_imports', name,
                    'which is not imported; import it first')


def _refuse_name(where: str, key: Any, value: Any,
                 kinds: Optional[FrozenSet[str]], built: bool) -> None:
    if key in _SCOPES and value is not None:
        if value not in _scopes():
            _refuse(where, value, 'which is the scope of no registry here')
    if key in _FUNCTIONS and isinstance(value, str):
        if ('.' in value or key == 'collate_fn') and not _registered(value):
            _refuse(where, value, 'which is not registered')
    if key not in TYPE_KEYS or value is None:
        return
    if not isinstance(value, str):
        # A variable of the name ``type``, or of parts by type.
        if built and not isinstance(value, (dict, list, tuple)):
            _refuse(where, value, 'which is no name')
        return
    if not built and value.isidentifier():
        return
    if value not in _WORDS and not _registered(value, kinds):
        _refuse(where, value,
                'which is not registered; import what registers it first')


def _refuse_opening(where: str, key: Any, value: Any, model: bool) -> None:
    if key in TYPE_KEYS and isinstance(value, str):
        if value.rpartition('.')[2] in _FETCHING:
            _refuse(where, value, 'which reads or fetches other files')
    elif key in _FILES and value is not None:
        _refuse(where, value, 'which names a file')
    elif key == 'warp_mode' and isinstance(value, str):
        # mmdet evaluates it.
        if not re.fullmatch(r'cv2\.MOTION_[A-Z]+', value):
            _refuse(where, value, 'which is no motion model of cv2')
    elif model and isinstance(value, str) and (re.search(r'[/\\]', value)
                                               or value.startswith('~')):
        _refuse(where, value, 'which looks like a file or an address')


def _scopes() -> Set[str]:
    # mmcv and mmtern have no registries of their own; mmengine falls back to
    # the one that is asked.
    return {registry.scope for registry in registries()} | {'mmcv', 'mmtern'}


def _registered(name: str, kinds: Optional[FrozenSet[str]] = None) -> bool:
    if _found(name, kinds):
        return True
    import_mmdet_parts()
    return _found(name, kinds)


def _found(name: str, kinds: Optional[FrozenSet[str]]) -> bool:
    scope, _, rest = name.partition('.')
    target = imported_object(name)
    for registry in registries():
        if kinds is not None and registry.name not in kinds:
            continue
        parts = registry.module_dict
        if name in parts or scope == registry.scope and rest in parts:
            return True
        # As written by configs that import their types.
        if target is not None and any(target is part
                                      for part in parts.values()):
            return True
    return (kinds is None or kinds is _MODEL) and _is_pooling(name)


def _is_pooling(name: str) -> bool:
    """Return whether RoI extractors find the name in mmcv.ops."""
    # Imported late: the ops are compiled, and training a model without RoIs
    # needs none.
    from mmcv import ops
    found = getattr(ops, name, None) if name in ops.__all__ else None
    return isinstance(found, type) and issubclass(found, nn.Module)


def _detach(config: Dict[str, Any], classes: Sequence[str]) -> None:
    """Take out of a config, in place, what reads and writes and is not needed
    to detect.

    These are file backends of the test pipelines and backends of the
    visualizer. A test data set that would read files when it is built is
    replaced by an empty one with its pipeline.

    Args:
        config (dict): Values of a config.
        classes (tuple): Names for the empty data set.
    """
    for name in ('test_dataloader', 'test_pipeline', 'tta_pipeline'):
        for node in dicts_in(config.get(name)):
            for key in ('backend_args', 'file_client_args'):
                if node.get(key) is not None:
                    node[key] = None
    loader = config.get('test_dataloader')
    if isinstance(loader, dict) and 'dataset' in loader:
        if not _reads_nothing(loader['dataset']):
            loader['dataset'] = _empty_dataset(loader['dataset'], classes)
    visualizer = config.get('visualizer')
    if isinstance(visualizer, dict):
        visualizer.pop('save_dir', None)
        visualizer['vis_backends'] = [dict(type='mmengine.LocalVisBackend')]


def _empty_dataset(dataset: Any, classes: Sequence[str]) -> Dict[str, Any]:
    return dict(
        type='mmdet.BaseDetDataset',
        metainfo=dict(classes=tuple(classes)),
        pipeline=_pipeline(dataset),
        test_mode=True,
        lazy_init=True)


def _forget_pretrained(config: Dict[str, Any]) -> None:
    """Take every pretrained checkpoint out, in place: the file's weights
    replace them."""
    for node in dicts_in(config):
        node.pop('pretrained', None)
        if any(key == 'checkpoint' or value == 'Pretrained'
               for _, key, value in _walk(node.get('init_cfg'))):
            node['init_cfg'] = None


def _reads_nothing(dataset: Any) -> bool:
    if not isinstance(dataset,
                      dict) or dataset.get('_scope_') not in (None, 'mmdet'):
        return False
    scope, _, name = str(dataset.get('type')).rpartition('.')
    # mmengine reads a text among the metainfo as the name of a list.
    metainfo = dataset.get('metainfo') or {}
    places = {k: v for k, v in dataset.items() if k != 'pipeline'}
    if any('://' in str(value) for value in places.values()):
        return False
    return scope in ('', 'mmdet') and name in _LAZY_DATASETS and isinstance(
        metainfo, dict) and not any(
            isinstance(value, str) for value in metainfo.values())


def _pipeline(dataset: Any) -> Any:
    """Return the pipeline that inference takes from a data set and its
    wrappers."""
    while isinstance(dataset, dict) and 'pipeline' not in dataset:
        dataset = dataset.get('dataset') or next(
            iter(dataset.get('datasets') or []), None)
    return dataset['pipeline'] if isinstance(dataset, dict) else []
