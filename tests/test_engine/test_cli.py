import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def tool(name, *args, cwd=REPOSITORY):
    return subprocess.run(
        [sys.executable,
         str(REPOSITORY / 'tools' / name), *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True)


def fails_with(result, *words):
    assert result.returncode not in (0, None)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('error: '), result.stderr
    assert 'Traceback' not in result.stderr
    for word in words:
        assert word in last, last


def test_training_without_data_names_the_path_and_the_readme(tmp_path):
    result = tool(
        'train.py',
        REPOSITORY / 'configs' / 'tern_retinanet_r18-lite_bccd.py',
        cwd=tmp_path)
    fails_with(result, 'data/bccd/', 'README.md', 'train_dataloader')


def test_missing_config():
    fails_with(tool('train.py', 'configs/none.py'), "'configs/none.py'")


def test_missing_checkpoint(tmp_path):
    (tmp_path / 'data.json').write_text('{}')
    config = tmp_path / 'config.py'
    config.write_text("test_dataloader = dict(dataset=dict("
                      f"ann_file='{tmp_path}/data.json'))")
    fails_with(tool('test.py', config, 'none.pth'), "'none.pth'")


def test_dump_must_be_a_pickle(tmp_path):
    fails_with(
        tool('test.py', 'c.py', 'x.pth', '--out', 'x.json'), '--out', '.pkl')
