"""How few bits ternary codes can take."""
import math

import torch
from torch import Tensor


def entropy(codes: Tensor) -> float:
    """Bits a code that coding them one by one takes at least: the entropy of
    the values' frequencies, in [0, log2(3)].

    Args:
        codes (Tensor): Values in {-1, 0, +1}, any shape; 0 bits if empty.
    """
    counts = torch.stack([(codes == code).sum() for code in (-1, 0, 1)])
    share = counts.double() / max(codes.numel(), 1)
    return float(torch.special.entr(share).sum()) / math.log(2)


def largest_entropy(zeros: float) -> float:
    """The most bits a code can have, where a share ``zeros`` or more of them
    is zero: log2(3) up to a third, and then less."""
    zeros = max(zeros, 1 / 3)
    sign = (1 - zeros) / 2
    return -sum(x * math.log2(x) for x in (sign, zeros, sign) if x > 0)
