import warnings

import pytest
from mmengine.visualization import Visualizer

from mmtern import (TernaryRegularizerHook, TernaryScheduleHook,
                    TernaryStatisticsHook)
from ...toy import toy_runner

pytest.importorskip('tensorboard')


def test_scalars_come_back_from_the_event_file(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import \
        EventAccumulator
    runner = toy_runner(
        tmp_path, [
            TernaryScheduleHook(begin=2, approach='float'),
            TernaryRegularizerHook(loss_weight=8e-3, end=2),
            TernaryStatisticsHook(interval=2)
        ],
        visualizer=dict(
            type='Visualizer',
            name='tensorboard_test',
            vis_backends=[dict(type='TensorboardVisBackend')]))
    runner.train()
    runner.visualizer.close()
    (event_file, ) = tmp_path.rglob('events.out.tfevents.*')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        events = EventAccumulator(str(event_file))
        events.Reload()

    def values(key):
        return {e.step: e.value for e in events.Scalars(f'ternary/{key}')}

    # Linear over 8 iterations, then off.
    expected = {
        step: 1e-3 * step if step <= 8 else 0
        for step in range(2, 13, 2)
    }
    assert values('lambda') == pytest.approx(expected)
    assert [values('phase')[step] for step in (8, 10)] == [0, 1]
    assert values('temperature')[12] == pytest.approx(4)
    for part in ('backbone', 'neck'):
        assert 0.7 < values(f'{part}_cosine')[12] < 1
        assert set(values(f'{part}_zeros')) == set(values(f'{part}_flips'))
    assert Visualizer.check_instance_created('tensorboard_test')
