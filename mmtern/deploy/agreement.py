"""Whether 8-bit activations keep the boxes that float activations find."""
from typing import Sequence, Tuple

import numpy as np

from .equality import Boxes

# The score of boxes looked for, and the share that must have a like. RetinaNet
# on the shapes keeps nearly all and its AP; YOLOX-Nano on VOC, where all
# layers compute in 8 bits, keeps fewer than half and loses half of its AP.
_SURE = 0.3
_KEPT = 0.9
# A like has at least this share of the box's score, and this IoU.
_LEAST_SHARE = 0.5
_LEAST_OVERLAP = 0.5


def agreement(pairs: Sequence[Tuple[Boxes, Boxes]]) -> str:
    """Return a note of how many boxes of float activations 8-bit ones find,
    and how many of theirs are new.

    Boxes with scores of 0.3 and more are looked at. Where neither finds any,
    the note tells of those with at least half of the best score; these decide
    about nothing, since the scores of an untrained detector tie.

    Args:
        pairs (Sequence[tuple]): For each image the boxes (M, 4), scores (M, )
            and labels (M, ) of float activations, and those of 8-bit ones.

    Raises:
        ValueError: If fewer than 90 % of the boxes of one have a like, of the
            same class and at least half of the score, among the other's.
    """
    best = max(
        scores.max(initial=0) for pair in pairs for _, scores, _ in pair)
    sure = _SURE if best >= _SURE else best / 2
    found, there = (
        np.concatenate([_likes(pair[i], pair[1 - i], sure) for pair in pairs])
        for i in range(2))
    which = f'boxes with scores of {sure:.2g} and more'
    kept = f'{found.sum()} of {len(found)} {which} are found again'
    if best < _SURE:
        return (f'no box in {len(pairs)} calibration images has a score of '
                f'{_SURE}, so whether 8-bit activations lose boxes is not '
                f'known ({kept}); --images takes a folder of images with '
                'objects')
    for likes, ours, theirs in ((found, 'float activations', '8-bit ones'),
                                (there, '8-bit activations', 'float ones')):
        if likes.sum() < _KEPT * len(likes):
            raise ValueError(
                f'8 bits are too few for this detector: of the {len(likes)} '
                f'{which} that {ours} find in {len(pairs)} images {theirs} '
                f'find only {likes.sum()}; use float activations '
                '(--activations float), or keep the layers that need it '
                '(--keep PATTERN)')
    return f'{kept} with 8-bit activations, and {(~there).sum()} are new'


def _likes(ours: Boxes, theirs: Boxes, sure: float) -> np.ndarray:
    """Return whether each of our sure boxes has a like among theirs, shape
    (number of sure boxes, )."""
    boxes, scores, labels = (x[ours[1] >= sure] for x in ours)
    others, other_scores, other_labels = theirs
    like = ((labels[:, None] == other_labels)
            & (other_scores >= _LEAST_SHARE * scores[:, None])
            & (_overlaps(boxes, others) > _LEAST_OVERLAP))
    return like.any(1)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes (M, 4) and others (K, 4), shape (M, K)."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (boxes, others)]
    return both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-6)
