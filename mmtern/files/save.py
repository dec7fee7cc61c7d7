"""Write a detector into one small file."""
from typing import Any, Dict

import mmcv
import mmdet
import mmengine
import torch
from mmengine.config import Config
from torch import nn

from ..checks import check_choice
from ..version import __version__
from .atomic import check_target, write_atomically
from .compression import ENCODINGS
from .config_text import config_to_text
from .container import to_bytes
from .contents import collect
from .dataset_meta import check_dataset_meta
from .errors import TernaryFileError
from .read import read_packed
from .sizes import Sizes, SizeTable

DTYPES = ('float32', 'float16')
PREDICTION_FORMATS = ('float', 'int8')


def save_packed(model: nn.Module,
                cfg: Config,
                path: str,
                dataset_meta: Dict[str, Any],
                encoding: str = 'zstd',
                dtype: str = 'float32',
                predictions: str = 'float',
                force: bool = False) -> SizeTable:
    """Write a built detector with its trained weights as a packed file.

    With ``dtype='float32'`` and ``predictions='float'`` a model read back
    computes the very same numbers. The file is read back before it gets its
    name.

    Args:
        model (nn.Module): With ternary layers.
        cfg (Config): The whole config, which rebuilds the model.
        path (str): Target, ending in ``.safetensors``.
        dataset_meta (dict): ``classes``, and ``palette`` where there is one.
        encoding (str): 'zstd' compresses all weights; '2bit' stores four
            ternary weights a byte and the rest as any safetensors file.
        dtype (str): 'float16' halves float parameters that are not ternary
            (scales and buffers keep float32); approximate.
        predictions (str): 'int8' stores the weights of prediction layers in
            8 bits a channel; approximate.
        force (bool): Replace an existing file.

    Returns:
        SizeTable: What the bytes are spent on.

    Raises:
        ValueError: For a bad argument, or a model without ternary layers or
            with weights that are no finite numbers.
        TernaryFileError: If the config is not made of plain literals, or
            class names or colours are none.
        FileExistsError: If ``path`` exists and ``force`` is not set.
    """
    check_choice('encoding', encoding, ENCODINGS)
    check_choice('dtype', dtype, DTYPES)
    check_choice('predictions', predictions, PREDICTION_FORMATS)
    if not path.endswith('.safetensors'):
        raise ValueError(f'a packed file is read by its ending .safetensors, '
                         f'but the target is {path!r}')
    check_target(path, force)
    text = config_to_text(cfg)
    contents = collect(model, encoding, dtype, predictions)
    exact = dtype == 'float32' and predictions == 'float'
    data = to_bytes(
        contents.tensors,
        dict(
            config=text,
            dataset_meta=check_dataset_meta(dataset_meta),
            exact=exact,
            encoding=encoding,
            written_by=dict(
                mmtern=__version__,
                torch=torch.__version__,
                mmengine=mmengine.__version__,
                mmcv=mmcv.__version__,
                mmdet=mmdet.__version__),
            aliases=contents.aliases,
            **contents.coded))
    notes = [] if exact else [
        'approximate: detections differ a little from the checkpoint\'s '
        f'(dtype={dtype}, predictions={predictions})'
    ]
    shapes = {name: value.shape for name, value in model.state_dict().items()}

    def read_back(temporary: str) -> None:
        packed = read_packed(temporary, trust_config=True)
        found = {name: t.shape for name, t in packed.state_dict.items()}
        if found != shapes:
            raise TernaryFileError(f'{path!r} does not read back')
        try:
            read_packed(temporary)
        except TernaryFileError as error:
            reason = str(error).partition(': ')[2]
            notes.append(f'not for everyone to read: {reason}')

    write_atomically(path, data, force, read_back)
    return SizeTable(Sizes(contents.sizes), len(data), notes)
