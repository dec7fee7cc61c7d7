"""Whether an exported file finds the boxes that its checkpoint finds."""
from dataclasses import dataclass
from typing import Tuple

import numpy as np

# Scores this near are equal, in [0, 1]: float32 engines sum in other orders.
SCORE_TOLERANCE = 1e-5
# Pixels of the image file.
BOX_TOLERANCE = 1e-2
Boxes = Tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Equality:
    """Counts over images; see :meth:`add`.

    Attributes:
        images: Images that were compared.
        same: Images with the same boxes in the same order.
        reordered: Images with the same boxes, but others among equal scores
            come first.
        boxes: Boxes of the checkpoint in all images.
        lost: Boxes of the checkpoint that the file does not find.
        more: Boxes of the file that the checkpoint does not find.
        score: Largest difference of scores of a box found by both.
        pixels: Largest difference of a side of such a box, in pixels.
    """
    images: int = 0
    same: int = 0
    reordered: int = 0
    boxes: int = 0
    lost: int = 0
    more: int = 0
    score: float = 0.0
    pixels: float = 0.0

    def add(self, expected: Boxes, found: Boxes) -> None:
        """Compare the boxes of an image and count them.

        Args:
            expected (tuple): Boxes (M, 4) in pixels, scores (M, ) and labels
                (M, ) of the checkpoint, by falling score.
            found (tuple): Boxes (K, 4), scores and labels of the file.
        """
        self.images += 1
        self.boxes += len(expected[0])
        boxes, scores, labels = expected
        others, other_scores, other_labels = found
        pixels = np.abs(boxes[:, None] - others[None]).max(-1, initial=0)
        gaps = np.abs(scores[:, None] - other_scores)
        fits = ((labels[:, None] == other_labels) & (gaps <= SCORE_TOLERANCE) &
                (pixels <= BOX_TOLERANCE))
        pairs = []
        taken = np.zeros(len(others), bool)
        for row in range(len(boxes)):
            free = fits[row] & ~taken
            if free.any():
                # The same place first: equal boxes may be there twice.
                place = row if row < len(free) and free[row] else int(
                    free.argmax())
                taken[place] = True
                pairs.append((row, place))
        self.lost += len(boxes) - len(pairs)
        self.more += len(others) - len(pairs)
        for pair in pairs:
            self.score = max(self.score, float(gaps[pair]))
            self.pixels = max(self.pixels, float(pixels[pair]))
        if len(pairs) == len(boxes) == len(others):
            if all(row == place for row, place in pairs):
                self.same += 1
            else:
                self.reordered += 1

    def sentence(self) -> str:
        """Return the counts in one sentence."""
        parts = [f'{self.same} of {self.images} images have the same boxes']
        if self.reordered:
            parts.append(f'{self.reordered} in another order among equal '
                         'scores')
        parts.append(f'of {self.boxes} boxes {self.lost} are not found and '
                     f'{self.more} are more')
        return (f'{", ".join(parts)}; scores differ by at most '
                f'{self.score:.1e}, boxes by {self.pixels:.1e} pixels')
