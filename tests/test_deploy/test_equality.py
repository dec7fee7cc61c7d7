"""Boxes of a file and of its checkpoint are compared one by one."""
import numpy as np
import pytest

from mmtern.deploy.equality import Equality


def detections(*scores, labels=None, shift=0.0):
    """One box a score, each elsewhere."""
    left = np.arange(len(scores), dtype=np.float32)[:, None] * 10 + shift
    boxes = left + np.array([[0, 0, 8, 8]], np.float32)
    labels = np.zeros(len(scores), int) if labels is None else labels
    return boxes, np.array(scores, np.float32), np.asarray(labels)


def swapped(detections):
    return tuple(x[::-1] for x in detections)


def test_equal_boxes():
    equality = Equality()
    equality.add(detections(.9, .5), detections(.9, .5 + 5e-6, shift=5e-3))
    equality.add(detections(), detections())
    assert (equality.images, equality.same, equality.boxes) == (2, 2, 2)
    assert equality.lost == equality.more == 0
    assert equality.pixels == pytest.approx(5e-3, abs=1e-5)
    assert equality.score == pytest.approx(5e-6, abs=1e-6)


def test_equal_scores_come_in_any_order():
    equality = Equality()
    one = detections(.5, .5)
    equality.add(one, swapped(one))
    assert (equality.same, equality.reordered, equality.lost) == (0, 1, 0)
    # Others do not.
    far = detections(.9, .5)
    equality.add(far, (far[0][::-1], far[1], far[2]))
    assert (equality.reordered, equality.lost, equality.more) == (1, 2, 2)


@pytest.mark.parametrize('found', [
    detections(.9),
    detections(.9, .49),
    detections(.9, .5, shift=0.1),
    detections(.9, .5, labels=[1, 1]),
    detections(),
])
def test_what_is_not_found_is_told(found):
    equality = Equality()
    equality.add(detections(.9, .5), found)
    assert equality.same == equality.reordered == 0 < equality.lost
    assert equality.lost - equality.more == 2 - len(found[0])
    assert f'{equality.lost} are not found' in equality.sentence()


def test_a_box_is_found_only_once():
    equality = Equality()
    boxes, scores, labels = detections(.5)
    equality.add(
        tuple(np.repeat(x, 2, 0) for x in (boxes, scores, labels)),
        (boxes, scores, labels))
    assert (equality.boxes, equality.lost, equality.more) == (2, 1, 0)
