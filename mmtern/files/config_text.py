"""The config inside a file: text of plain literals, run by nobody."""
import ast

from mmengine.config import Config, ConfigDict

from .errors import TernaryFileError

_LITERALS = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Load,
             ast.keyword, ast.USub, ast.Name, ast.Call, ast.UnaryOp)


def config_to_text(cfg: Config) -> str:
    """Config with its bases merged, as Python assignments.

    What ties it to a run is left out: where it was trained and what it
    started from.

    Raises:
        TernaryFileError: If the config holds more than literals.
    """
    cfg = cfg.copy()
    cfg.merge_from_dict(dict(load_from=None, resume=False))
    cfg.pop('work_dir', None)
    text = cfg.pretty_text
    check_text(text)
    return text


def config_from_text(text: str) -> Config:
    """Inverse of :func:`config_to_text`, with every pretrained checkpoint
    inside the model set to None: the file's weights replace it."""
    check_text(text)
    cfg = Config.fromstring(text, file_format='.py')
    _forget_pretrained(cfg.model)
    return cfg


def check_text(text: str) -> None:
    """Refuse anything but ``name = literal``, where ``dict(key=literal)`` is
    a literal: mmengine runs config files as Python, fills in ``{{ }}`` and
    follows ``_base_``.

    Raises:
        TernaryFileError: If the text holds anything else.
    """
    error = TernaryFileError('its config is not made of plain literals')
    try:
        tree = ast.parse(text)
        for statement in tree.body:
            if not isinstance(statement, ast.Assign):
                raise error
            for target in statement.targets:
                if not isinstance(target, ast.Name) or target.id == '_base_':
                    raise error
            if not all(map(_is_literal, ast.walk(statement.value))):
                raise error
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise error from None
    if '{{' in text:
        raise error


def _is_literal(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return (isinstance(node.func, ast.Name) and node.func.id == 'dict'
                and not node.args and all(k.arg for k in node.keywords))
    # 'dict' alone is left to be a value; it does no harm.
    if isinstance(node, ast.Name):
        return node.id == 'dict'
    return isinstance(node, _LITERALS)


def _forget_pretrained(node) -> None:
    if isinstance(node, (list, tuple)):
        for child in node:
            _forget_pretrained(child)
    elif isinstance(node, (dict, ConfigDict)):
        if node.get('pretrained') is not None:
            node['pretrained'] = None
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, dict) and init_cfg.get('checkpoint'):
            node['init_cfg'] = None
        for child in node.values():
            _forget_pretrained(child)
