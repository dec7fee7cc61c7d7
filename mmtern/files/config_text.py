"""The config inside a file: text of plain literals, run by nobody."""
import ast
import math
from typing import Any, Dict, List, Sequence, Tuple

from mmengine.config import Config

from .errors import TernaryFileError

_PLAIN = (str, int, float, bool, type(None))
_NOT_FINITE = ('inf', '-inf', 'nan')


def config_to_text(cfg: Config) -> str:
    """Config with its bases merged, as Python assignments.

    What ties it to a run is left out: where it was trained and what it
    started from.

    Raises:
        TernaryFileError: If the config holds more than literals, or no model.
    """
    values = cfg.to_dict()
    values.pop('work_dir', None)
    values.update(load_from=None, resume=False)
    text = render_config(values)
    parse_config(text)
    return text


def render_config(values: Dict[str, Any]) -> str:
    """Inverse of :func:`parse_config`: one assignment a line.

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
    if type(value) not in _PLAIN:
        raise TernaryFileError(
            'its config is not made of plain literals: '
            f'{where} holds a {type(value).__name__}, {repr(value)[:80]}')
    return repr(value)


def parse_config(text: str) -> Dict[str, Any]:
    """Values of a config text; it is parsed and not run.

    Accepted is ``name = literal``, where ``dict(key=literal)`` and
    ``float('inf')`` are literals. mmengine runs config files as Python, fills
    in ``{{ }}`` and follows ``_base_``.

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
