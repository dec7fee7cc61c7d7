import json
import os
import subprocess
import sys
from pathlib import Path

from mmengine.config import Config

from ..small_detectors import small_retinanet, ternary_twin

REPOSITORY = Path(__file__).parent.parent.parent
SWEEP = REPOSITORY / 'tools' / 'zoo_sweep.py'


def call(*args):
    # A config imports what lies beside the tests.
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    return subprocess.run([sys.executable, str(SWEEP), *args],
                          capture_output=True,
                          env=environment,
                          text=True)


def write(path, model, **kwargs):
    Config(dict(model=model, **kwargs)).dump(str(path))
    return str(path)


def test_table_tells_our_failures_from_mmdets_and_survives_crashes(tmp_path):
    good = small_retinanet()
    wrong = small_retinanet()
    wrong.bbox_head.in_channels = 5
    # Runs as it is, but cannot be made ternary.
    ours = ternary_twin(good)
    reading = small_retinanet()
    reading.neck.type = 'ReadingFPN'
    dead = tmp_path / 'dead.py'
    # To mmengine 0.10.7 an import statement makes a lazy config.
    dead.write_text('__import__("os")._exit(3)\n')
    out = tmp_path / 'table.md'
    result = call(
        write(tmp_path / 'good.py', good), write(tmp_path / 'wrong.py', wrong),
        write(tmp_path / 'ours.py', ours),
        write(
            tmp_path / 'reading.py',
            reading,
            custom_imports=dict(imports=['tests.reading_neck'])), str(dead),
        '--out', str(out))
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
    assert records['good']['left']['prediction']['weights'] == 16 * 9 * 9 * 7
    assert records['wrong']['stage'] == 'float'
    assert records['wrong']['reason'].startswith('RuntimeError')
    assert records['ours']['stage'] == 'ternary'
    assert 'ternary already' in records['ours']['reason']
    # A weight that is used past its layer shows in what is computed.
    assert records['reading']['stage'] == 'ternary'
    assert 'something else than plain layers' in records['reading']['reason']
    assert 'status 3' in records['dead']['reason']
    table = out.read_text()
    assert '**1 of 3 configs (33.3%)**' in table
    good = records['good']
    assert 0.9 < good['share'] < good['share_all'] < 1
    assert f'{good["share"]:.1%} | {good["share_all"]:.1%}' in table
    # What holds the other weights is told.
    assert '## Below 95 %' in table
    kept = good['left']['prediction']['weights'] / good['parameters']
    assert f'{kept:.1%} predictions (`bbox_head.retina_reg`)' in table
    order = [
        table.index(x)
        for x in (f': good | {good["layers"]} |', 'ours.py', 'wrong.py')
    ]
    assert order == sorted(order)
    # Layers are counted anew without a run.
    good.update(layers=1, share=0.5, share_all=0.5)
    json_path = out.with_suffix('.json')
    json_path.write_text(json.dumps(list(records.values())))
    result = call('--counts', '--out', str(out))
    assert result.returncode == 0, result.stderr
    again = {
        Path(x['config']).stem: x
        for x in json.loads(json_path.read_text())
    }
    assert again['good']['layers'] == 29 and again['good']['share'] > 0.9
    assert again['reading'] == records['reading']


def test_a_slow_config_is_given_up(tmp_path):
    out = tmp_path / 'table.md'
    path = write(tmp_path / 'slow.py', small_retinanet())
    assert call(path, '--timeout', '0.01', '--out', str(out)).returncode == 0
    record, = json.loads(out.with_suffix('.json').read_text())
    assert record['reason'] == 'no result after 0.01 s'
