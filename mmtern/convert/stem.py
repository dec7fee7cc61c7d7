"""The search for the layers that read the image."""
import re
from typing import List, Optional, Set, Tuple

from mmengine.model import BaseDataPreprocessor
from torch import nn

from .scope import PREDICTIONS

# YOLO's Focus reads the image as 12 channels, deep stems have several convs.
STEM = r'(?:^|\.)stem(?:\.|$)'
RGB = 3
# Grey, colour, and colour with depth or infrared.
FEW = (1, RGB, 4)

NamedConvs = List[Tuple[str, nn.Conv2d]]


def image_readers(module: nn.Module,
                  reads_image: Optional[bool] = None) -> Set[str]:
    """Return the names of the convs that read the image.

    These are, beside all under a module called ``stem``, the convs that take
    as many channels as the image has, as long as no layer before them puts
    out so many: the first conv of a backbone, of each branch of a backbone
    that reads the image twice, of the backbones inside a recursive neck, but
    no conv with few channels further on.

    Args:
        module (nn.Module): Any part of a detector; its submodules are in the
            order in which they compute, as mmdet's are.
        reads_image (bool, optional): Whether ``module`` is given the image.
            Defaults to None: a model with a data preprocessor is, and so is
            what begins with a conv for images, one of 1, 3 or 4 channels or
            a strided one that makes more of them.
    """
    convs = [(name, layer) for name, layer in module.named_modules()
             if isinstance(layer, nn.Conv2d)]
    channels = _image_channels(module, convs, reads_image)
    readers, before = set(), set()
    for name, conv in convs:
        first = conv.in_channels == channels and channels not in before
        if first or re.search(STEM, name):
            readers.add(name)
        if not re.search(PREDICTIONS, name):
            before.add(conv.out_channels)
    return readers


def _image_channels(module: nn.Module, convs: NamedConvs,
                    reads_image: Optional[bool]) -> int:
    """Return the channels of the image that ``module`` reads; where it reads
    none, those of an RGB image, which a backbone inside it may read."""
    preprocessors = [
        part for part in module.modules()
        if isinstance(part, BaseDataPreprocessor)
    ]
    read = {conv.in_channels for _, conv in convs}
    for preprocessor in preprocessors:
        # One value for a channel, or one for all of them.
        mean = getattr(preprocessor, 'mean', None)
        if mean is not None and mean.numel() in read:
            return mean.numel()
    if reads_image is None:
        reads_image = bool(preprocessors) or _looks_like_a_stem(convs)
    return convs[0][1].in_channels if reads_image and convs else RGB


def _looks_like_a_stem(convs: NamedConvs) -> bool:
    if not convs:
        return False
    conv = convs[0][1]
    return conv.in_channels in FEW or (max(conv.stride) > 1 and
                                       conv.out_channels > conv.in_channels)
