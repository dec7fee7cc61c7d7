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
