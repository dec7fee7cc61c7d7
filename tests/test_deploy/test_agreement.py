"""Boxes that 8-bit activations lose or make up are seen."""
import numpy as np
import pytest

from mmtern.deploy.agreement import agreement


def found(count, score, label=0, size=10):
    """Boxes in a row, all of one score and class."""
    left = 20.0 * np.arange(count)
    boxes = np.stack([left, 0 * left, left + 10, 0 * left + size], 1)
    return boxes, np.full(count, score), np.full(count, label)


def joined(*parts):
    return tuple(np.concatenate(x) for x in zip(*parts))


NONE = found(0, 0.0)


def test_boxes_that_are_kept_are_counted():
    note = agreement([(found(9, 0.9), found(9, 0.5)),
                      (found(1, 0.9), found(1, 0.9, size=4))])
    assert note == (
        '9 of 10 boxes with scores of 0.3 and more are found again '
        'with 8-bit activations, and 1 are new')


@pytest.mark.parametrize(
    'exact, others, told',
    [
        # All lost, moved, of another class, or with less than half the score.
        (found(10, 0.9), NONE, 'of the 10 boxes.* 8-bit ones find only 0'),
        (found(10, 0.9), found(10, 0.9, size=4), 'find only 0'),
        (found(10, 0.9), found(10, 0.9, label=1), 'find only 0'),
        (found(10, 0.9), found(10, 0.4), 'find only 0'),
        (found(10, 0.9), joined(found(8, 0.9), found(2, 0.9, 1)), 'only 8'),
        # False ones, and ones that float activations are not sure of.
        (found(10, 0.9), joined(found(10, 0.9), found(
            100, 0.9, 2)), 'of the 110 boxes.* float ones find only 10'),
        (NONE, found(1, 0.4), 'float ones find only 0'),
        (found(10, 0.1), found(10, 0.9), 'float ones find only 0'),
    ])
def test_boxes_that_are_not_kept_are_refused(exact, others, told):
    with pytest.raises(ValueError, match=f'{told}.*--activations float'):
        agreement([(exact, others)])


def test_that_no_sure_box_was_compared_is_told():
    weak = joined(found(5, 0.2), found(5, 0.05, 1))
    for others, told in ((found(5, 0.15), '(5 of 5 boxes'), (found(5, 0.02),
                                                             '(0 of 5 boxes')):
        note = agreement([(NONE, NONE), (weak, others)])
        assert 'no box in 2 calibration images has a score of 0.3' in note
        assert f'{told} with scores of 0.1 and more are found again' in note
    assert '(0 of 0 boxes' in agreement([(NONE, NONE)])
