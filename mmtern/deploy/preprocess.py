"""From an image's bytes to what the network takes, in the graph."""
from typing import Any, Tuple

import torch
import torch.nn.functional as F
from mmdet.models import DetDataPreprocessor
from mmengine.model import ImgDataPreprocessor
from torch import Tensor, nn


class _Padded(torch.autograd.Function):
    """An image with sides that the divisor divides, filled up at the bottom
    and the right. What PyTorch would do takes 16 nodes."""

    @staticmethod
    def forward(ctx, image: Tensor, divisor: int, value: float) -> Tensor:
        bottom, right = (-side % divisor for side in image.shape[2:])
        return F.pad(image, (0, right, 0, bottom), value=value)

    @staticmethod
    def symbolic(g, image, divisor: int, value: float):

        def constant(number):
            return g.op('Constant', value_t=torch.tensor(number))

        sides = g.op('Shape', image, start_i=2)
        missing = g.op('Mod', g.op('Neg', sides), constant(divisor))
        margins = g.op('Concat', constant([0] * 6), missing, axis_i=0)
        return g.op('Pad', image, margins, constant(value))


class Preprocess(nn.Module):
    """What mmdet's ``DetDataPreprocessor`` does to a batch of images of one
    size: channel order, normalization, padding.

    Args:
        preprocessor (nn.Module): The detector's ``data_preprocessor``, of
            a type of mmdet or mmengine.
        channels (int): How many an image has.

    Raises:
        ValueError: If the preprocessor is of another type, which may do
            anything.
    """
    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: Any, channels: int) -> None:
        super().__init__()
        if type(preprocessor) not in (DetDataPreprocessor,
                                      ImgDataPreprocessor):
            raise ValueError(
                f'{type(preprocessor).__name__} is not known in a graph; '
                '--raw writes the network without it')
        # The graph takes RGB; mmdet reads BGR. One of the two swaps.
        self.swap = channels == 3 and not preprocessor._channel_conversion
        self.divisor = preprocessor.pad_size_divisor
        self.pad_value = float(preprocessor.pad_value)
        self.normalize = preprocessor._enable_normalize
        if self.normalize:
            self.register_buffer('mean', preprocessor.mean.clone())
            self.register_buffer('std', preprocessor.std.clone())

    def forward(self, image: Tensor) -> Tensor:
        """Return normalized pixels (N, C, H', W'), with sides that the
        divisor divides, of ``image`` (N, C, H, W) in RGB, 0 to 255."""
        image = image.float()
        if self.swap:
            image = image[:, [2, 1, 0]]
        if self.normalize:
            image = (image - self.mean) / self.std
        if self.divisor > 1:
            image = _Padded.apply(image, self.divisor, self.pad_value)
        return image

    def gray(self) -> Tuple[int, ...]:
        """Return the byte of each channel, in the graph's order, that becomes
        what padding is, as nearly as a byte can."""
        if not self.normalize:
            return (round(self.pad_value), )
        value = self.pad_value * self.std + self.mean
        pixels = value.flatten().clamp(0, 255).round().int().tolist()
        return tuple(reversed(pixels) if self.swap else pixels)
