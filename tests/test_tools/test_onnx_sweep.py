"""tools/onnx_sweep.py tells what goes into one file, and goes on where it
ended."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from ..small_detectors import small_retinanet
from ..test_deploy.test_export import PIPELINE

pytest.importorskip('onnx', '1.20')
pytest.importorskip('onnxruntime', '1.24')

REPOSITORY = Path(__file__).parent.parent.parent


def sweep(*args):
    done = subprocess.run([
        sys.executable,
        str(REPOSITORY / 'tools' / 'onnx_sweep.py'), *map(str, args)
    ],
                          capture_output=True,
                          env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
                          text=True)
    assert done.returncode == 0, done.stderr


def config(path, change=None):
    """A RetinaNet of mmdet's 80 classes."""
    model = small_retinanet()
    model.bbox_head.num_classes = 80
    if change:
        change(model)
    data = dict(dataset=dict(type='CocoDataset', pipeline=PIPELINE))
    Config(dict(model=model, test_dataloader=data)).dump(str(path))
    return path


def test_table(tmp_path):
    out = tmp_path / 'heads.jsonl'
    paths = [
        config(tmp_path / 'good.py'),
        config(tmp_path / 'soft.py',
               lambda model: model.test_cfg.nms.update(type='soft_nms')),
        tmp_path / 'none.py'
    ]
    sweep(*paths, '--out', out)

    def lines():
        return {
            Path(line['config']).stem: line
            for line in map(json.loads,
                            out.read_text().splitlines())
        }

    found = lines()
    assert found['good']['head'] == 'RetinaHead'
    assert found['good']['result'] == 'any'
    assert found['soft']['result'].startswith('no: boxes of RetinaHead with ')
    # No folder of this machine.
    assert found['none']['result'].startswith('no: ')
    assert str(tmp_path) not in found['none']['result']
    table = out.with_suffix('.md').read_text()
    assert '1 of 2 detectors' in table
    assert f'| RetinaHead | any | {tmp_path.name} |' in table
    assert f'| RetinaHead | refused (1) | {tmp_path.name} |' in table
    # One is tried again, with another outcome; the others stay.
    config(tmp_path / 'good.py',
           lambda model: model.bbox_head.update(in_channels=5))
    sweep(paths[0], '--out', out)
    again = lines()
    assert again.pop('good')['result'].startswith('no: ')
    found.pop('good')
    assert again == found


def test_a_slow_config_is_given_up(tmp_path):
    out = tmp_path / 'heads.jsonl'
    sweep(config(tmp_path / 'a.py'), '--timeout', 1, '--out', out)
    assert json.loads(out.read_text())['result'] == ('no: no result after 1 s')
