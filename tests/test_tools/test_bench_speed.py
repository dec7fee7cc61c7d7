import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / 'tools' / 'bench_speed.py'


def test_a_small_image(tmp_path):
    with (tmp_path / 'speed.jsonl').open('w') as file:
        for cost in (1, 2):
            line = dict(case='quantizer alone', phase='mmtern', passes=1)
            line.update(ns_per_weight=cost, machine='another')
            print(json.dumps(line), file=file)
    done = subprocess.run([
        sys.executable, BENCH, '--cases', 'smoke', '--pairs', '2',
        '--no-memory', '--results', tmp_path
    ],
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = list(map(json.loads, (tmp_path / 'speed.jsonl').open()))
    phases = {x['phase']: x for x in lines if x['case'] == 'smoke'}
    assert list(phases) == ['approach', 'ternary', 'inference']
    for line in phases.values():
        assert line['ratio_low'] <= line['ratio'] <= line['ratio_high']
        parts = [
            k for k in line if k.startswith('ternary_') and k[-3:] == '_ms'
        ]
        assert all(line[part] > 0 for part in parts)
    assert 'ternary_optimizer_ms' in phases['ternary']
    quantizers = {x['phase'] for x in lines if 'ns_per_weight' in x}
    assert {'mmtern', 'literal_twn'} <= quantizers
    table = (tmp_path / 'speed.md').read_text()
    assert '| smoke | ternary |' in table and '| mmtern |' in table
    # The last of each machine.
    assert '| mmtern | 2 | 1 | another |' in table
    assert '| mmtern | 1 | 1 | another |' not in table


def test_a_rehearsal_of_the_gpu_suite(tmp_path, compiled):
    done = subprocess.run([
        sys.executable, BENCH, '--gpu-suite', '--cases', 'smoke', '--pairs',
        '1', '--minutes', '0', '--device', 'cpu', '--results', tmp_path
    ],
                          capture_output=True,
                          env=compiled,
                          text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = list(map(json.loads, (tmp_path / 'speed.jsonl').open()))
    table = (tmp_path / 'speed.md').read_text()
    found = {
        (x['phase'], x['precision'], x['way']): x
        for x in lines if x['case'] == 'host'
    }
    assert len(found) == 6
    # In eval a layer is a constant.
    assert found['inference', 'float32', 'kernels']['forward_launches'] == 0
    # A GPU's way: one kernel each way, and in the approach phase the layer's
    # share of the regularizer, whose gradient joins the other by a sum.
    ternary = found['ternary', 'float32', 'stub']
    approach = found['approach', 'float32', 'stub']
    assert ternary['forward_launches'] == ternary['backward_launches'] == 1
    assert approach['forward_launches'] < 2
    assert approach['backward_launches'] < 3
    assert ternary['forward_calls'] < 75 and ternary['backward_calls'] < 45
    # Under autocast they take the place of a float layer's two casts.
    half = found['ternary', 'float16', 'stub']
    assert half['forward_launches'] < 0.1 and half['backward_launches'] < 0.1
    assert '| ternary, by stub |' in table
    (endured, ) = [x for x in lines if x['phase'] == 'endurance']
    assert 0 < endured['skipped'] <= endured['iterations'] / 2
    assert endured['last_loss'] < endured['first_loss']
    assert endured['not_finite'] == endured['stale'] == 0
    assert '| smoke | 10 |' in table
