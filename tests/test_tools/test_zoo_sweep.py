import json
import subprocess
import sys
from pathlib import Path

from mmengine.config import Config

from ..small_detectors import small_retinanet, ternary_twin

REPOSITORY = Path(__file__).parent.parent.parent
SWEEP = REPOSITORY / 'tools' / 'zoo_sweep.py'


def call(*args):
    return subprocess.run([sys.executable, str(SWEEP), *args],
                          capture_output=True,
                          text=True)


def write(path, model):
    Config(dict(model=model)).dump(str(path))
    return str(path)


def test_table_tells_our_failures_from_mmdets_and_survives_crashes(tmp_path):
    good = small_retinanet()
    wrong = small_retinanet()
    wrong.bbox_head.in_channels = 5
    # Runs as it is, but cannot be made ternary.
    ours = ternary_twin(good)
    dead = tmp_path / 'dead.py'
    # To mmengine 0.10.7 an import statement makes a lazy config.
    dead.write_text('__import__("os")._exit(3)\n')
    out = tmp_path / 'table.md'
    result = call(
        write(tmp_path / 'good.py', good), write(tmp_path / 'wrong.py', wrong),
        write(tmp_path / 'ours.py', ours), str(dead), '--out', str(out))
    assert result.returncode == 0, result.stderr
    records = {
        Path(record['config']).stem: record
        for record in json.loads(out.with_suffix('.json').read_text())
    }
    assert records['good']['stage'] == 'done'
    assert records['good']['layers'] == 29
    assert records['good']['left']['prediction']['names'] == [
        'bbox_head.retina_cls', 'bbox_head.retina_reg'
    ]
    assert records['wrong']['stage'] == 'float'
    assert records['wrong']['reason'].startswith('RuntimeError')
    assert records['ours']['stage'] == 'ternary'
    assert 'ternary already' in records['ours']['reason']
    assert 'status 3' in records['dead']['reason']
    table = out.read_text()
    assert '**1 of 2 configs (50.0%)**' in table
    order = [table.index(f'{x}.py') for x in ('good', 'ours', 'wrong')]
    assert order == sorted(order)


def test_a_slow_config_is_given_up(tmp_path):
    out = tmp_path / 'table.md'
    path = write(tmp_path / 'slow.py', small_retinanet())
    assert call(path, '--timeout', '0.01', '--out', str(out)).returncode == 0
    record, = json.loads(out.with_suffix('.json').read_text())
    assert record['reason'] == 'no result after 0.01 s'
