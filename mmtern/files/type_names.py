"""How a config names its types: bare, with a scope before it, by the module
that a class lies in, or as the class itself."""
import sys
from typing import Any, Iterator, Mapping

import mmengine.registry
from mmdet import registry as mmdet_registry
from mmengine.registry import Registry

# Keys whose value a registry looks up.
TYPE_KEYS = ('type', 'wrapped', 'runner_type')


def type_name(kind: Any) -> str:
    """Return the bare name of a config's ``type``: a string, with or without a
    scope or module before it, or the class or function itself."""
    if not isinstance(kind, str):
        kind = getattr(kind, '__name__', '')
    return kind.rpartition('.')[2]


def dicts_in(node: Any) -> Iterator[Any]:
    """Yield every dict in a config's tree, a dict before those in it."""
    if isinstance(node, Mapping):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from dicts_in(child)


def use_registered_names(node: Any) -> None:
    """Replace types that are named by their module by the names that they are
    registered under: ``mmdet.models.losses.smooth_l1_loss.L1Loss`` by
    ``mmdet.L1Loss``.

    mmengine writes the former into checkpoints and work directories of
    configs that import their types, and does not find it again where a
    package has a function of the module's name, as mmdet has
    ``smooth_l1_loss`` and ``iou_loss``.

    Args:
        node: Dicts, lists and tuples of a config; changed in place. Names of
            modules that are not imported stay, and so do classes that
            registries know by different names.
    """
    named = [(part, key, part[key]) for part in dicts_in(node)
             for key in TYPE_KEYS
             if isinstance(part.get(key), str) and part[key].count('.') > 1]
    if named:
        import_mmdet_parts()
    for part, key, name in named:
        target = imported_object(name)
        names = {
            f'{registry.scope}.{own}'
            for registry in registries()
            for own, one in registry.module_dict.items() if one is target
        }
        if len(names) == 1:
            part[key] = names.pop()


def registries() -> Iterator[Registry]:
    """Yield mmengine's registries and all below them."""
    waiting = [
        value for value in vars(mmengine.registry).values()
        if isinstance(value, Registry)
    ]
    while waiting:
        registry = waiting.pop()
        waiting.extend(registry.children.values())
        yield registry


def import_mmdet_parts() -> None:
    """Let mmdet register its parts, as it does when one is asked for."""
    for value in vars(mmdet_registry).values():
        if isinstance(value, Registry):
            value.import_from_location()


def imported_object(name: str) -> Any:
    """Return the object of a dotted name, None if its module was not imported
    or has none of that name; nothing is imported."""
    module, _, attribute = name.rpartition('.')
    return vars(
        sys.modules[module]).get(attribute) if module in sys.modules else None
