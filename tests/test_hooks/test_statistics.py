import pytest

from mmtern import TernaryScheduleHook, TernaryStatisticsHook
from ..toy import toy_runner


def test_scalars_reach_the_message_hub(tmp_path):
    runner = toy_runner(
        tmp_path,
        [TernaryScheduleHook(begin=1),
         TernaryStatisticsHook(interval=2)])
    runner.train()
    scalars = {
        key.split('train/ternary/')[1]: history.data[0].tolist()
        for key, history in runner.message_hub.log_scalars.items()
        if 'ternary' in key
    }
    assert set(scalars) == {
        f'{part}_{what}'
        for part in ('backbone', 'neck')
        for what in ('cosine', 'zeros', 'flips')
    } | {'temperature', 'phase'}
    assert all(len(values) == 6 for values in scalars.values())
    assert scalars['phase'] == [0, 0, 1, 1, 1, 1]
    assert 0 < max(scalars['neck_flips']) < 1
    assert all(0.7 < x <= 1 for x in scalars['backbone_cosine'])


@pytest.mark.parametrize('interval', [0, 1.5])
def test_wrong_interval(interval):
    with pytest.raises(ValueError, match=f'interval.*{interval}'):
        TernaryStatisticsHook(interval)
