"""What the bytes of a stored detector are spent on, by group of tensors."""
from dataclasses import dataclass
from typing import Optional, Sequence

from torch import Tensor

from .ops import entropy

TERNARY = 'ternary weights'
PREDICTIONS = 'prediction layers'
OTHER_WEIGHTS = 'other weights'
VECTORS = 'norms, biases'
BUFFERS = 'buffers'
GROUPS = (TERNARY, PREDICTIONS, OTHER_WEIGHTS, VECTORS, BUFFERS)


def nbytes(tensor: Tensor) -> int:
    """Bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file: its group, size and cost.

    Attributes:
        weights: Number of elements.
        before: Bytes in a checkpoint.
        after: Bytes in the file, scales included.
        zeros: Number of zero codes; ternary weights only.
        codes: Bytes of the coded codes alone; ternary weights only.
        bound: The fewest bytes for these codes, by entropy.
    """
    name: str
    group: str
    weights: int
    before: int
    after: int
    zeros: int = 0
    codes: int = 0
    bound: float = 0.0

    @classmethod
    def ternary(cls, name: str, codes: Tensor, before: int, coded: int,
                scales: int) -> 'StoredTensor':
        """A weight of ternary codes.

        Args:
            codes (Tensor): Values in {-1, 0, +1}, any shape.
            before (int): Bytes in a checkpoint.
            coded (int): Bytes of the codes in the file.
            scales (int): Bytes of the scales in the file.
        """
        return cls(
            name,
            TERNARY,
            codes.numel(),
            before,
            coded + scales,
            zeros=int((codes == 0).sum()),
            codes=coded,
            bound=codes.numel() * entropy(codes) / 8)


@dataclass(frozen=True)
class Sizes:
    """Stored tensors and their sums."""
    tensors: Sequence[StoredTensor]

    def of(self, group: str) -> 'Sizes':
        """Those of one group."""
        return Sizes([t for t in self.tensors if t.group == group])

    def total(self, attribute: str, group: Optional[str] = None) -> float:
        """Sum of an attribute over a group, or over everything."""
        tensors = self.of(group).tensors if group else self.tensors
        return sum(getattr(tensor, attribute) for tensor in tensors)

    @property
    def bits(self) -> float:
        """Bits a weight in the file."""
        return 8 * self.total('after') / max(self.total('weights'), 1)

    @property
    def zeros(self) -> float:
        """Share of zero codes, in [0, 1]."""
        return self.total('zeros') / max(self.total('weights'), 1)

    @property
    def ratio(self) -> float:
        """Bytes before over bytes after."""
        return self.total('before') / max(self.total('after'), 1)
