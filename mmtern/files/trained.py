"""A detector from a config and a checkpoint that must fit it."""
import copy
import pickle
import zipfile
from typing import Any, Dict, Tuple

from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from .dataset_meta import check_dataset_meta
from .errors import TernaryFileError


def build_trained(cfg: Config,
                  checkpoint: str) -> Tuple[nn.Module, Dict[str, Any]]:
    """Build a config's detector and load a checkpoint, strictly.

    Args:
        cfg (Config): Its ``model`` and, where the checkpoint does not tell
            the classes, its test data set's are used.
        checkpoint (str): Anything mmengine's checkpoint loader reads.

    Returns:
        tuple: The model in eval, on the CPU, and the data set's meta
        (``classes``, ``palette``).

    Raises:
        ValueError: If the file is no checkpoint or does not fit the model, or
            holds class names or colours that are none.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    # mmdet's DETRs write into their config.
    model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model)))
    try:
        loaded = load_checkpoint(model, checkpoint, 'cpu', strict=True)
    except TernaryFileError:
        raise
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError,
            LookupError, AttributeError, ImportError,
            zipfile.BadZipFile) as error:
        # pickle's documentation: unpickling arbitrary bytes may raise any of
        # these.
        reason = ' '.join(str(error).split())
        if len(reason) > 300:
            reason = f'{reason[:300]}...'
        raise ValueError(f'checkpoint {checkpoint!r} cannot be loaded into '
                         f'the config\'s model: {reason}') from error
    meta = (loaded.get('meta') or {}).get('dataset_meta')
    if not meta:
        dataset = dict(cfg.test_dataloader.dataset, lazy_init=True)
        meta = DATASETS.build(dataset).metainfo
    return model.eval(), check_dataset_meta(meta)
