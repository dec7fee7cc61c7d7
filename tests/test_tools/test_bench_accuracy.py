import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from ..small_detectors import build

REPOSITORY = Path(__file__).parent.parent.parent
BENCH = REPOSITORY / 'tools' / 'bench_accuracy.py'


def call(cwd, script, *args):
    return subprocess.run([sys.executable, str(script), *args],
                          cwd=cwd,
                          capture_output=True,
                          text=True)


def test_two_images_two_iterations(tmp_path):
    shapes = call(tmp_path, REPOSITORY / 'tools' / 'make_shapes.py',
                  'data/shapes', '--train', '2', '--val', '2', '--test', '2')
    assert shapes.returncode == 0, shapes.stderr
    args = ('--suite', 'smoke', '--budget', 'smoke', '--detectors',
            'retinanet', '--methods', 'fp', 'mmtern', '--ablations',
            'no-approach+plain-ste', '--seeds', '0', '--work-dir', 'work',
            '--results', 'results')
    first = call(tmp_path, BENCH, *args)
    assert first.returncode == 0, first.stderr[-2000:]
    path = tmp_path / 'results' / 'smoke.jsonl'
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line['method'] for line in lines] == ['fp', 'mmtern', 'mmtern']
    assert [x['ablation'] for x in lines] == ['', '', 'no-approach+plain-ste']
    for line in lines:
        assert {
            'suite', 'detector', 'scope', 'seed', 'AP', 'AP50', 'AP75',
            'seconds', 'settings', 'device', 'commit', 'ablation',
            'float_model'
        } <= set(line)
    assert len({line['float_model'] for line in lines}) == 1
    schedule = lines[2]['settings']['schedule']
    assert schedule['temperature'] == [0.0, 0.0] and schedule['begin'] == 0
    # Both phases are mmtern's; the changed one has neither.
    assert lines[1]['settings']['schedule']['approach'] == 'proximal'
    assert lines[1]['settings']['schedule']['begin'] == 0.5
    assert lines[1]['settings']['regularizer']['loss_weight'] > 0
    assert lines[2]['settings']['regularizer']['loss_weight'] == 0
    assert 'zeros' not in lines[0]
    assert 0.2 < lines[1]['zeros'] < 0.7
    assert 1 < lines[1]['bits_per_weight'] < 1.6
    assert 0.8 < lines[1]['cosine'] < 1
    table = (tmp_path / 'results' / 'smoke.md').read_text()
    assert table.startswith('**RetinaNet, 1 float + 2 epochs')
    for setting in ('float', 'mmtern', 'mmtern, no-approach+plain-ste'):
        assert f'| {setting}, lr 0.001 | 1 |' in table
    for name in ('smoke.png', 'smoke_ablations.png'):
        assert (tmp_path / 'results' / name).stat().st_size > 1000
    # What was tested is what a user gets, the last checkpoint.
    (work_dir, ) = (tmp_path / 'work' / 'smoke').glob('retinanet_mmtern_*')
    logs = ''.join(path.read_text() for path in work_dir.rglob('*.log'))
    assert re.search('Load checkpoint from .*retinanet_mmtern_.*epoch_2.pth',
                     logs)
    # A record of its own, as tools/report.py reads it, with both added losses.
    records = [path.read_text() for path in work_dir.rglob('scalars.json')]
    keys = {
        key
        for line in ''.join(records).splitlines()
        for key in json.loads(line)
    }
    assert {'loss_ternary', 'loss_distillation'} <= keys
    # Finished runs are skipped: nothing is trained, nothing is added.
    again = call(tmp_path, BENCH, *args)
    assert again.returncode == 0
    assert path.read_text().count('\n') == 3


@pytest.fixture
def voc07(tmp_path):
    """Two pictures of noise in the place of VOC's, and an untrained YOLOX-Nano
    in that of the trained one."""
    images = tmp_path / 'data/voc07/images'
    images.mkdir(parents=True)
    cfg = Config.fromfile(str(REPOSITORY / 'configs/yolox_nano_voc07.py'))
    names = cfg.train_dataloader.dataset.metainfo.classes
    coco = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i + 1, name=x) for i, x in enumerate(names)])
    noise = np.random.default_rng(0)
    for number in (1, 2):
        name = f'{number}.jpg'
        pixels = noise.integers(256, size=(240, 320, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / name)
        coco['images'].append(
            dict(id=number, file_name=name, width=320, height=240))
        coco['annotations'].append(
            dict(
                id=number,
                image_id=number,
                category_id=number,
                bbox=[40, 40, 160, 120],
                area=160 * 120,
                iscrowd=0))
    for split in ('train', 'val', 'test'):
        with open(tmp_path / f'data/voc07/{split}.json', 'w') as file:
            json.dump(coco, file)
    weights = tmp_path / 'data/weights/yolox_nano_voc20.pth'
    weights.parent.mkdir()
    model = build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), weights)
    return tmp_path


def test_two_images_from_a_trained_detector(voc07):
    result = call(voc07, BENCH, '--suite', 'voc-yolox', '--budget', 'smoke',
                  '--methods', 'fp', 'mmtern', '--ablations', 'no-approach',
                  '--seeds', '0', '--work-dir', 'work', '--results', 'results')
    assert result.returncode == 0, result.stderr[-2000:]
    path = voc07 / 'results/voc-yolox.jsonl'
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        assert (line['detector'], line['optimizer'], line['lr'],
                line['float_epochs'], line['extra_epochs']) == ('yolox', 'sgd',
                                                                0.004, 0, 2)
        assert 0 < line['end_loss'] < 1e5
    # All begin from the file, none from a float model of this run.
    weights = voc07 / 'data/weights/yolox_nano_voc20.pth'
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    assert {line['float_model'] for line in lines} == {digest}
    assert 0.2 < lines[1]['zeros'] < 0.7
    table = (voc07 / 'results/voc-yolox.md').read_text()
    assert table.startswith('**YOLOX-Nano, 2 epochs (smoke)**')
    assert '| mmtern, no-approach, SGD, lr 0.004 | 1 |' in table


def test_two_images_on_trained_features(voc07):
    result = call(voc07, BENCH, '--suite', 'voc-csp', '--budget', 'smoke',
                  '--detectors', 'faster_rcnn', '--methods', 'mmtern',
                  '--seeds', '1', '--work-dir', 'work', '--results', 'results')
    assert result.returncode == 0, result.stderr[-2000:]
    line = json.loads((voc07 / 'results/voc-csp.jsonl').read_text())
    start = voc07 / 'work/voc-csp/faster_rcnn_float1_seed0/epoch_1.pth'
    digest = hashlib.sha256(start.read_bytes()).hexdigest()
    assert line['float_model'] == digest[:8]
    assert 0.2 < line['zeros'] < 0.7


@pytest.mark.parametrize('detector', ['retinanet', 'faster_rcnn'])
def test_another_detector_begins_on_trained_features(detector, voc07,
                                                     monkeypatch):
    monkeypatch.chdir(voc07)
    cfg = Config.fromfile(
        str(REPOSITORY / f'configs/{detector}_csp-nano_voc07.py'))
    model = build(cfg.model)
    model.init_weights()
    trained = torch.load('data/weights/yolox_nano_voc20.pth')['state_dict']
    begun = model.state_dict()
    parts = {key for key in trained if key.startswith(('backbone.', 'neck.'))}
    assert parts == {key for key in begun if not re.match('.*head', key)}
    assert all(torch.equal(begun[key], trained[key]) for key in parts)


@pytest.mark.parametrize('missing, words', [
    ('data/voc07/train.json', 'tools/split_voc07.py makes it'),
    ('data/weights/yolox_nano_voc20.pth', "Megvii's YOLOX-Nano"),
])
def test_absent_files_are_named(missing, words, voc07):
    (voc07 / missing).unlink()
    result = call(voc07, BENCH, '--suite', 'voc-yolox', '--budget', 'smoke',
                  '--results', 'results')
    assert result.returncode == 1
    assert result.stderr.startswith('error: --suite voc-yolox cannot run, ')
    assert f'{missing} does not exist: {words}' in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_settings_name_the_zeros_asked_for():
    code = ('import json, sys; from accuracy import train; '
            'run = train.Run("smoke", min_sparsity=0.8, zeros_per=sys.argv[1])'
            '; print(json.dumps(train.settings_of(run)["ternary"]))')
    for per, shares in (('filter', (0.8, 0.0)), ('model', (0.0, 0.8))):
        result = call(REPOSITORY / 'tools', '-c', code, per)
        assert result.returncode == 0, result.stderr
        ternary = json.loads(result.stdout.splitlines()[-1])
        found = ternary['min_sparsity'], ternary['model_sparsity']
        assert found == shares


def test_seeds_of_a_suite_with_one_start_share_a_float_model(tmp_path):
    code = ('import sys; from accuracy import train; '
            'run = train.Run("voc-lite", seed=2, amp=True); '
            'print(train.train_float(run, sys.argv[1]))')
    start = tmp_path / 'retinanet_float12_amp_seed0/epoch_12.pth'
    start.parent.mkdir()
    start.write_bytes(b'')
    result = call(REPOSITORY / 'tools', '-c', code, str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(start)


def test_a_float_model_takes_the_backbone_of_another_detector_s(tmp_path):
    code = """if True:
        import sys
        from accuracy import train
        train._train = lambda cfg: print(cfg.work_dir, cfg.model.backbone)
        run = train.Run(
            "voc-lite", "faster_rcnn", budget="borrowed", amp=True)
        print(train.train_float(run, sys.argv[1]))"""
    lender = tmp_path / 'retinanet_float12_amp_seed0/epoch_12.pth'
    lender.parent.mkdir()
    lender.write_bytes(b'')
    result = call(REPOSITORY / 'tools', '-c', code, str(tmp_path))
    assert result.returncode == 0, result.stderr
    trained, checkpoint = result.stdout.splitlines()[-2:]
    folder = tmp_path / 'faster_rcnn_float4_backbone-of-retinanet_amp_seed0'
    assert trained.startswith(str(folder))
    assert f"'checkpoint': '{lender}'" in trained
    assert "'prefix': 'backbone.'" in trained
    assert checkpoint == str(folder / 'epoch_4.pth')


def test_failed_run_is_a_row_with_its_error(tmp_path):
    result = call(tmp_path, BENCH, '--suite', 'smoke', '--budget', 'smoke',
                  '--detectors', 'retinanet', '--methods', 'mmtern', '--seeds',
                  '0', '--work-dir', 'work', '--results', 'results')
    assert result.returncode != 0
    line = json.loads((tmp_path / 'results' / 'smoke.jsonl').read_text())
    assert 'data/shapes' in line['error']
    assert 'Failed: retinanet_mmtern' in (tmp_path / 'results' /
                                          'smoke.md').read_text()


def redrawn(tmp_path, lines):
    """The table of such lines, of one budget."""
    common = dict(
        suite='smoke',
        budget='smoke',
        optimizer='adamw',
        float_epochs=1,
        extra_epochs=1,
        lr=1e-3,
        val_AP=41.0,
        AP50=60.0,
        AP75=30.0)
    with open(tmp_path / 'smoke.jsonl', 'w') as file:
        for line in lines:
            print(json.dumps(dict(common, **line)), file=file)
    result = call(tmp_path, BENCH, '--suite', 'smoke', '--results', '.',
                  '--redraw')
    assert result.returncode == 0, result.stderr
    return (tmp_path / 'smoke.md').read_text()


def test_a_seed_counts_once_and_zeros_stand_apart(tmp_path):
    runs = [
        # method, seed, amp, AP, least share of zeros, AP on val (41.0)
        ('fp', 0, False, 46.0, 0.0),
        ('fp', 0, True, 47.0, 0.0),
        ('twn', 0, False, 40.0, 0.0),
        ('twn', 0, True, 42.0, 0.0),
        ('twn', 1, True, 43.0, 0.0),
        ('fp', 2, True, 44.0, 0.0),
        ('twn', 0, True, 39.0, 0.8),
        ('twn', 2, False, 40.0, 0.8),
        ('mmtern', 0, False, 46.0, 0.0, 42.0),
        ('mmtern', 0, True, 47.0, 0.0, 42.0),
        ('mmtern', 1, True, 49.5, 0.0, 43.0),
    ]
    names = ('method', 'seed', 'amp', 'AP', 'min_sparsity', 'val_AP')
    table = redrawn(tmp_path, [dict(zip(names, run)) for run in runs])
    natural, sparse = table.split('\n\n**')
    assert '| float, lr 0.001 | 2 | 45.2 ± 1.8 |' in natural
    # Seeds 0 and 1: (40 + 42) / 2 and 43; float of the same precision above
    # seed 0's two by 6 and 5, none for seed 1. Nothing is its own rival.
    assert '| TWN, lr 0.001 | 2 | 42.0 ± 1.4 |' in natural
    assert '| 41.0 ± 0.0 | -5.5 | - | - |' in natural
    # Over TWN by 6 and 5 in seed 0, by 6.5 in seed 1; on val by 1 and by 2.
    assert '| mmtern, lr 0.001 | 2 | 48.0 ± 2.1 |' in natural
    assert '| +0.0 | +6.0 ± 0.5 | +1.5 ± 0.5 |' in natural
    assert natural.count('| fp32, bf16 |') == 3
    assert sparse.startswith('RetinaNet, 1 float + 1 epochs (smoke), at least')
    # Seed 2's float was run in the other precision only.
    assert '| TWN, lr 0.001 | 2 | 39.5 ± 0.7 |' in sparse
    assert '| 41.0 ± 0.0 | -6.0 ± 2.0 | - | - |' in sparse


def test_rivals_have_the_same_float_model_and_learning_rate(tmp_path):
    runs = [('twn', None, 38.0, 43.0), ('twn', 'a', 40.0, 41.0),
            ('twn', 'b', 45.0, 42.0), ('mmtern', None, 39.0, 41.0),
            ('mmtern', 'a', 43.0, 41.0), ('mmtern', 'b', 47.0, 41.0),
            ('mmtern', 'c', 43.0, 41.0)]
    lines = []
    for method, float_model, test, val in runs:
        lines.append(dict(method=method, seed=0, AP=test, val_AP=val))
        if float_model is not None:
            lines[-1]['float_model'] = float_model
    # Best on val, but at another learning rate.
    lines.append(
        dict(
            method='twn',
            seed=0,
            AP=30.0,
            val_AP=44.0,
            lr=0.1,
            float_model='a'))
    # By 1, 3 and 2 on test; on val by -2, 0 and -1; of c by nothing, TWN was
    # not run from it. One seed in all.
    table = redrawn(tmp_path, lines)
    assert '| mmtern, lr 0.001 | 1 | 43.0 |' in table
    assert '| - | +2.0 | -1.0 |' in table


def test_lines_of_earlier_releases_are_other_methods(tmp_path):
    common = dict(
        suite='smoke',
        detector='retinanet',
        budget='smoke',
        float_epochs=1,
        extra_epochs=1,
        val_AP=41.0,
        AP50=60.0,
        AP75=30.0,
        seed=0)
    old = [
        dict(common, method='mmtern', ablation='', AP=40.0),
        dict(common, method='mmtern', ablation='floor0', AP=42.0)
    ]
    common.update(optimizer='adamw')
    new = [
        dict(
            common,
            method='mmtern',
            ablation=ablation,
            AP=AP,
            settings=settings) for ablation, AP, settings in [
                ('', 50.0, dict(modules=None)),
                ('', 47.0, dict(teacher=None)),
                ('', 44.0, {}),
                ('begin0.35+neck-teaches', 48.0, dict(teacher=['neck'])),
                ('floor0', 45.0, {}),
                ('no-distillation', 46.0, {}),
            ]
    ]
    (tmp_path / 'smoke.jsonl').write_text('\n'.join(
        json.dumps(line) for line in [*old, *new]))
    result = call(tmp_path, BENCH, '--suite', 'smoke', '--results', '.',
                  '--redraw')
    assert result.returncode == 0, result.stderr
    table = (tmp_path / 'smoke.md').read_text()
    for title, AP in (('mmtern', 50), ('mmtern 0.1',
                                       40), ('mmtern 0.1, floor0', 42),
                      ('mmtern, neck-and-head-teach',
                       47), ('mmtern, neck-teaches',
                             44), ('mmtern, begin0.35+neck-teaches',
                                   48), ('mmtern, floor0+neck-teaches',
                                         45), ('mmtern, no-distillation', 46)):
        assert f'| {title}, lr 0.0003 | 1 | {AP}.0 |' in table
    # What was changed is compared to its own release.
    assert (tmp_path / 'smoke_ablations.png').exists()


def test_a_change_without_mmtern_to_compare_is_in_the_table_alone(tmp_path):
    line = dict(method='mmtern', ablation='floor0', seed=0, AP=40.0)
    assert '| mmtern, floor0, lr 0.001 | 1 |' in redrawn(tmp_path, [line])
    assert not list(tmp_path.glob('*.png'))


@pytest.mark.parametrize('differences', [False, True])
def test_a_panel_of_one_setting_shows_differences_only(differences, tmp_path):
    lines = [
        dict(
            suite='smoke',
            detector='retinanet',
            method=method,
            budget=budget,
            seed=0,
            float_epochs=1,
            extra_epochs=epochs,
            AP=40.0)
        for method, budget, epochs in (('twn', 'short', 1), ('fp', 'short', 1),
                                       ('twn', 'real', 3))
    ]
    picture = tmp_path / 'plot.svg'
    code = ('from operator import itemgetter; from matplotlib import rcParams;'
            'from accuracy.plot import draw;'
            'rcParams["svg.fonttype"] = "none";'
            f'draw({lines}, {str(picture)!r}, "AP", itemgetter("AP"),'
            f'     differences={differences})')
    result = call(REPOSITORY / 'tools', '-c', code)
    assert result.returncode == 0, result.stderr
    text = picture.read_text()
    assert '1 float + 1 epochs' in text
    assert ('1 float + 3 epochs' in text) == differences


@pytest.mark.parametrize('option, value, words', [
    ('--detectors', 'yolox', "--suite bccd-lite has no 'yolox', only "
     'retinanet, faster_rcnn'),
    ('--budget', 'medium', "--suite bccd-lite has no budget 'medium', only "
     'short, recipe, real, smoke'),
    ('--lr', '0', '--lr must be above 0, got 0.0'),
    ('--ablations', 'plain-ste+none', "unknown ablation 'none'; choose of"),
    ('--min-sparsity', '1', '--min-sparsity must be a number in [0, 1), the '
     'least share of zeros, but got 1.0'),
])
def test_wrong_arguments(option, value, words, tmp_path):
    result = call(tmp_path, BENCH, option, value, '--results', 'results')
    assert result.returncode != 0
    assert words in result.stderr
