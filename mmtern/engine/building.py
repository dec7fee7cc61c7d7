"""Building of a config's model outside a runner."""
import logging
from contextlib import contextmanager
from typing import Iterator

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from torch import nn

from ..files.config import model_to_build


@contextmanager
def only_warnings_logged() -> Iterator[None]:
    """Hold back what mmengine's current logger says below a warning."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model as a runner does, without its wrappers' log.

    Args:
        cfg (Config): Its ``custom_imports``, ``default_scope``, ``model`` and
            ``data_preprocessor`` are read.

    Returns:
        nn.Module: The model, with weights as constructed.

    Raises:
        ValueError: If the config has no model. The frameworks raise errors of
            many types where a config is wrong; see
            :func:`mmtern.engine.mistakes.sentence_for`.
    """
    if not isinstance(cfg.get('model'), dict):
        raise ValueError('the config has no model=dict(...)')
    with only_warnings_logged():
        if cfg.get('custom_imports'):
            import_modules_from_strings(**cfg.custom_imports)
        init_default_scope(cfg.get('default_scope') or 'mmdet')
        return MODELS.build(model_to_build(cfg))
