"""2,000 iterations leave memory, files and hooks as they were."""
import gc
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook

from mmtern import TernaryScheduleHook, ternary_layers
from .toy import toy_runner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path('/proc/self/statm').exists(), reason='reads /proc')
]
PAGE = os.sysconf('SC_PAGE_SIZE') / 2**20


class Meter(Hook):
    """Resident MB, open files and the model's hooks, every 50 iterations."""

    def __init__(self):
        self.rows = []

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        if not self.every_n_train_iters(runner, 50):
            return
        gc.collect()
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        hooks = sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks)
            for m in runner.model.modules())
        self.rows.append((runner.iter, pages * PAGE,
                          len(os.listdir('/proc/self/fd')), hooks))


def test_nothing_grows(tmp_path, capsys):
    meter = Meter()
    hooks = [
        TernaryScheduleHook(begin=50),
        dict(type='TernaryRegularizerHook', loss_weight=1e-2),
        dict(type='TernaryStatisticsHook', interval=1),
        dict(type='TernaryGuardHook'), meter
    ]
    runner = toy_runner(tmp_path, hooks, epochs=500)
    # A checkpoint of the toy each epoch is a thousandth of a second, 500
    # files are not needed.
    runner.hooks[-1].max_keep_ckpts = 2
    runner.train()
    iterations, resident, files, registered = np.array(meter.rows).T
    late = iterations > 500
    slope = np.polyfit(iterations[late], resident[late], 1)[0] * 100
    with capsys.disabled():
        print(f'\n{slope:.3f} MB per 100 iterations, '
              f'{files[late].min():.0f} to {files[late].max():.0f} open '
              f'files, {registered.max():.0f} hooks')
    assert slope < 1
    assert files[late].max() == files[late].min()
    assert registered.max() == registered.min() == 1
    assert not any(m._forward_hooks for m in runner.model.modules())
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 2000
    assert ternary_layers(runner.model)
