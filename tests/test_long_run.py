"""2,000 iterations leave memory, files and hooks as they were."""
import gc
import json
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtern import TernaryScheduleHook, ternary_layers
from .shapes import draw_shapes, tiny_config
from .toy import toy_runner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path('/proc/self/statm').exists(), reason='reads /proc')
]
# Past the detector's first validation, which takes 130 MB for good.
WARM_UP = 700
PAGE = os.sysconf('SC_PAGE_SIZE') / 2**20


class Meter(Hook):
    """Resident MB, open files and the model's hooks, every 50 iterations."""

    def __init__(self):
        self.rows = []

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
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

    def assert_flat(self, capsys):
        iterations, resident, files, registered = np.array(self.rows).T
        late = iterations > WARM_UP
        slope = np.polyfit(iterations[late], resident[late], 1)[0] * 100
        with capsys.disabled():
            print(f'\n{iterations[-1]:.0f} iterations: {slope:.3f} MB per '
                  f'100, {resident[late].min():.0f} to '
                  f'{resident[late].max():.0f} MB, {files[late].min():.0f} '
                  f'to {files[late].max():.0f} open files, '
                  f'{registered.max():.0f} hooks')
        assert slope < 1
        assert files[late].max() == files[late].min()
        assert registered.max() == registered.min() == 1


def test_a_toy_does_not_grow(tmp_path, capsys):
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
    meter.assert_flat(capsys)
    assert not any(m._forward_hooks for m in runner.model.modules())
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 2000
    assert ternary_layers(runner.model)


def test_a_detector_does_not_grow(tmp_path, capsys):
    """13 epochs of the embedded data set with its config as shipped but for
    the images' scale; validation and checkpoints included."""
    cfg = tiny_config(
        draw_shapes(tmp_path / 'shapes'),
        'tern_retinanet_r18-lite_shapes',
        epochs=13,
        batch_size=1)
    cfg.work_dir = str(tmp_path / 'run')
    meter = Meter()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(meter)
    runner.train()
    assert runner.iter == 13 * 160
    meter.assert_flat(capsys)
    # The log is complete: every tenth iteration with its losses, the
    # statistics of both phases, every validation.
    [log] = Path(cfg.work_dir).glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    train = [row for row in rows if 'loss' in row]
    assert [row['iter'] for row in train] == list(range(10, 2081, 10))
    assert all(np.isfinite(row['loss']) for row in train)
    approach = [row['iter'] for row in train if row['loss_ternary'] > 0]
    # mmdet logs means over 50 iterations.
    assert approach == list(range(10, 13 * 160 // 2 + 50, 10))
    assert sum('coco/bbox_mAP' in row for row in rows) == 4
