import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / 'tools' / 'bench_files.py'


def test_a_case_meets_its_bars(tmp_path):
    """RetinaNet-R50: 13 times smaller, within 3 % of the entropy bound,
    with less than 1 GB of memory on top."""
    done = subprocess.run(
        [sys.executable, BENCH, '--cases', '1', '--results', tmp_path],
        capture_output=True,
        text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    line, = map(json.loads, (tmp_path / 'files.jsonl').open())
    assert line['ratio'] > 13
    assert 0 < line['codes_over_bound'] < line['ternary_over_bound'] < 0.03
    assert line['pack_memory'] < 1e9 and line['load_memory'] < 1e9
    assert '| RetinaNet-R50 |' in (tmp_path / 'files.md').read_text()
