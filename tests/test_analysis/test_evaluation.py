import numpy as np
import pytest

from mmtern.analysis.evaluation import (Boxes, GroundTruth, by_difference,
                                        confusion_matrix, counts, match,
                                        measure_accuracy, overlaps)


class Found:
    """Detections alone, as far as pictures are chosen by them."""

    def __init__(self, found):
        self.found = found


def boxes(*rows):
    """(x, y, side, label, score) each."""
    rows = np.array(rows, float).reshape(-1, 5)
    low = rows[:, :2]
    corners = np.concatenate([low, low + rows[:, 2:3]], 1)
    return Boxes(corners, rows[:, 3].astype(int), rows[:, 4])


NOTHING = boxes()
TRUTH = [boxes((0, 0, 10, 0, 1), (50, 50, 20, 1, 1)), boxes((5, 5, 8, 0, 1))]


def images(truth=TRUTH, ignored=None):
    ignored = ignored or [NOTHING] * len(truth)
    paths = [f'{index}.jpg' for index in range(len(truth))]
    return GroundTruth(paths, truth, ignored, ['a', 'b', 'c'], len(paths))


def test_overlap_by_hand():
    found = overlaps(
        boxes((0, 0, 2, 0, 1)).corners,
        boxes((1, 0, 2, 0, 1), (4, 4, 1, 0, 1)).corners)
    assert found == pytest.approx(np.array([[2 / 6, 0]]))


def test_the_truth_itself_is_perfect():
    accuracy = measure_accuracy(images(), TRUTH)
    assert (accuracy.ap, accuracy.ap50) == pytest.approx((100, 100))
    assert accuracy.classes[:2] == pytest.approx([100, 100])
    assert np.isnan(accuracy.classes[2])
    assert accuracy.precision == pytest.approx(np.ones(101))
    assert accuracy.confusion.tolist() == np.diag([2, 1, 0, 0]).tolist()


def test_nothing_found_is_zero():
    accuracy = measure_accuracy(images(), [NOTHING] * 2)
    assert accuracy.ap == accuracy.ap50 == 0
    assert accuracy.confusion[:, -1].tolist() == [2, 1, 0, 0]


def test_half_of_the_objects_of_a_class():
    found = [boxes((0, 0, 10, 0, .9)), NOTHING]
    accuracy = measure_accuracy(images(), found)
    # Precision 1 up to recall 1/2, which is 51 of 101 points.
    assert accuracy.classes[:2] == pytest.approx([100 * 51 / 101, 0])
    assert accuracy.ap == pytest.approx(50 * 51 / 101)


def test_confusions_false_detections_and_those_excused():
    found = [
        boxes((0, 0, 10, 1, .9), (80, 80, 9, 2, .8), (50, 50, 20, 1, .3)),
        boxes((5, 5, 8, 0, .9), (90, 90, 9, 2, .9))
    ]
    ignored = [NOTHING, boxes((90, 90, 9, 2, 1))]
    matrix = confusion_matrix(images(ignored=ignored), found)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0],
                               [0, 0, 1, 0]]


def test_an_object_is_found_once():
    found = boxes((0, 0, 10, 0, .9), (0, 0, 10, 0, .8), (1, 0, 10, 1, .7))
    assert match(TRUTH[0], found).tolist() == [0, -1, -1]
    assert counts(TRUTH[0], found) == (1, 2)


def test_pictures_are_those_where_the_detectors_differ_most():
    same = boxes((0, 0, 10, 0, .9))
    other = boxes((30, 0, 10, 0, .9), (60, 0, 10, 0, .9))
    first = Found([same, same, NOTHING])
    second = Found([same, other, same])
    tests = images([NOTHING] * 3)
    assert by_difference([first, second], tests) == [1, 2, 0]
    assert by_difference([first], images()) == [0, 1]
