import re
import shutil
import subprocess

import pytest

pytest.importorskip('plotly')
pytest.importorskip('jinja2')

from mmengine.config import Config

from mmtern.analysis.measure import average
from mmtern.analysis.plan import plan_config
from mmtern.report import results, write_report
from mmtern.report.curves import losses_by_kind
from mmtern.report.phases import find_phases
from mmtern.report.sections import stage_measures
from mmtern.report.work_dir import WorkDir, without_repeats
from .work_dirs import (train_rows, val_rows, write_images, write_scalars,
                        write_work_dirs)

FIGURES = [
    'ap', 'classes', 'recall', 'confusion', 'loss', 'rate', 'regularizer',
    'temperature', 'cosine', 'zeros', 'flips', 'distance', 'gradient',
    'overview', 'detail'
]
# Drawn by plotly once its script ran.
DRAWN = r'id="figure-{}" class="[^"]*js-plotly-plot[^"]*"'
# How many stick out of their place, or are empty.
MEASURE = """<script>window.addEventListener('load', function () {
  var high = document.querySelector('main').getBoundingClientRect().bottom;
  document.documentElement.dataset.high = high < 4000 ? 'no' : high;
  document.querySelector('details').open = true;
  setTimeout(function () {
    document.documentElement.dataset.cut =
      document.documentElement.scrollWidth > window.innerWidth + 1;
    document.documentElement.dataset.spoiled = Array.from(
      document.querySelectorAll('.js-plotly-plot')).filter(function (plot) {
        var svg = plot.querySelector('.main-svg').getBoundingClientRect();
        return svg.width > plot.getBoundingClientRect().width + 1 ||
          !plot.data.length || plot.data.some(t => !t.x || !t.x.length);
      }).length;
  }, 1500); });</script></body>"""


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp('report')
    write_images(root)
    ternary, twin = write_work_dirs(root, root)
    page = root / 'report.html'
    missing = write_report(str(ternary), str(page), str(twin), images=2)
    return page, missing


def browse(page, profile, *flags):
    browser = shutil.which('chromium') or shutil.which('google-chrome')
    if browser is None:
        pytest.skip('no chromium on this machine')
    return subprocess.run([
        browser, '--headless', '--no-sandbox', '--disable-gpu',
        '--disable-background-networking', '--virtual-time-budget=8000',
        f'--user-data-dir={profile}', '--enable-logging=stderr', '--v=0',
        *flags,
        page.as_uri()
    ],
                          capture_output=True,
                          text=True,
                          timeout=120)


def test_nothing_is_missing_and_nothing_is_fetched(report):
    page, missing = report
    text = page.read_text()
    assert missing == []
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="?http', text)
    # Ground truth, float, ternary.
    assert text.count('data:image/jpeg;base64') == 2 * 3
    assert 'fully ternary after epoch 2' in text
    assert 'python tools/train.py tern.py' in text and '2.13.0+cpu' in text
    # The float run had four epochs, the ternary one four more.
    assert 'float had 4 epochs fewer' in text
    assert 'backbone.layer4.1.conv2' in text and 'prediction' in text


def test_a_browser_draws_every_figure(report, tmp_path):
    result = browse(report[0], tmp_path, '--dump-dom')
    for name in FIGURES:
        assert re.search(DRAWN.format(name), result.stdout), name
    assert result.stdout.count('class="main-svg"') >= len(FIGURES)
    assert 'data-failed' not in result.stdout.split('<head>')[0]
    assert 'Uncaught' not in result.stderr


@pytest.mark.parametrize('width', [1400, 500])
def test_figures_are_filled_and_fit_the_page(report, tmp_path, width):
    page = tmp_path / 'measured.html'
    page.write_text(report[0].read_text().replace('</body>', MEASURE))
    result = browse(page, tmp_path / 'profile', '--dump-dom',
                    f'--window-size={width},2000')
    head = result.stdout.split('<head>')[0]
    assert 'data-spoiled="0"' in head
    assert 'data-cut="false"' in head
    assert 'data-high="no"' in head


def test_a_failing_script_would_be_noticed(report, tmp_path):
    page = tmp_path / 'broken.html'
    page.write_text(report[0].read_text().replace(
        '</main>', '<script>no_such_name()</script></main>'))
    result = browse(page, tmp_path / 'profile', '--dump-dom')
    assert 'data-failed' in result.stdout.split('<head>')[0]


def test_what_is_missing_is_said(tmp_path):
    write_scalars(tmp_path, train_rows(False))
    page = tmp_path / 'report.html'
    missing = ' '.join(write_report(str(tmp_path), str(page)))
    for word in ('No config', 'No statistics', 'No validation results',
                 '--float'):
        assert word in missing
        assert word in page.read_text()
    # A default is no fault.
    assert 'regularizer' not in missing
    assert 'regularizer was off' in page.read_text()


def test_lost_data_and_checkpoints_are_said(report, tmp_path):
    source = report[0].parent / 'tern'
    (config, ) = source.glob('*/vis_data/config.py')
    text = config.read_text().replace(str(source.parent), '/gone')
    (tmp_path / 'config.py').write_text(text)
    missing = ' '.join(
        write_report(str(tmp_path), str(tmp_path / 'report.html')))
    for word in ('load_from', 'before the switch', 'no checkpoint of this run',
                 'No losses', 'nothing to detect with'):
        assert word in missing
    shutil.copy(source / 'epoch_4.pth', tmp_path)
    missing = ' '.join(
        write_report(str(tmp_path), str(tmp_path / 'report.html')))
    assert 'No images: test_dataloader needs' in missing


def test_no_work_directory(tmp_path):
    with pytest.raises(ValueError, match='does not exist'):
        WorkDir(str(tmp_path / 'none'))
    with pytest.raises(ValueError, match='neither a config nor'):
        WorkDir(str(tmp_path))


def test_a_page_that_cannot_be_written_is_told_first(tmp_path):
    write_scalars(tmp_path, train_rows(True))
    with pytest.raises(FileNotFoundError, match='folder .*none. does not'):
        write_report(str(tmp_path), str(tmp_path / 'none' / 'report.html'))
    with pytest.raises(IsADirectoryError, match='is a folder'):
        write_report(str(tmp_path), str(tmp_path))


@pytest.mark.parametrize('weights,ternary', [('int2', True), ('float', False),
                                             (None, False)])
def test_an_onnx_file_is_ternary_where_it_says_so(report, tmp_path, weights,
                                                  ternary):
    helper = pytest.importorskip('onnx.helper')
    from mmtern.deploy.metadata import describe
    shutil.copytree(report[0].parent / 'tern', tmp_path / 'tern')
    model = helper.make_model(helper.make_graph([], 'empty', [], []))
    if weights:
        describe(model, ['circle'], weights=weights)
    (tmp_path / 'tern' / 'a.onnx').write_bytes(model.SerializeToString())
    (tmp_path / 'tern' / 'other.onnx').write_text('no graph')
    (tmp_path / 'tern' / 'other.safetensors').write_text('no tensors')
    run = WorkDir(str(tmp_path / 'tern'))
    sizes = results.sizes_of(run, plan_config(run.config))
    found = {size.name: size.ternary for size in sizes}
    assert found['a.onnx'] == ternary
    assert not found['other.onnx'] and not found['other.safetensors']
    assert found['packed file']


def test_a_float_run_is_refused_where_a_ternary_one_belongs(report, tmp_path):
    ternary, twin = (
        str(report[0].parent / name) for name in ('tern', 'float'))
    out = str(tmp_path / 'report.html')
    with pytest.raises(ValueError, match='float. is a float run.*--float'):
        write_report(twin, out)
    with pytest.raises(ValueError, match='--float takes the float twin'):
        write_report(ternary, out, ternary)


def stages_of(path):
    run = WorkDir(str(path))
    plan = plan_config(run.config)
    missing = []
    stages = stage_measures(run, plan,
                            find_phases(run, dict(epoch=4, iter=40)), missing)
    return run, stages, missing


@pytest.mark.parametrize('name', ['run', 'run[1]'])
def test_what_is_run_later_in_the_work_dir_changes_nothing(
        report, tmp_path, name):
    path = tmp_path / name
    shutil.copytree(report[0].parent / 'tern', path)
    run, stages, missing = stages_of(path)
    assert list(stages) == ['at the start', 'before the switch', 'at the end']
    assert missing == []
    (config, ) = path.glob('*/vis_data/config.py')
    cfg = Config.fromfile(str(config))
    # tools/test.py, with and without test-time augmentation.
    tested = cfg.copy()
    tested.load_from = str(path / 'epoch_2.pth')
    augmented = tested.copy()
    augmented.model = dict(type='DetTTAModel', module=cfg.model.to_dict())
    for number, other in enumerate((tested, augmented)):
        other.dump(str(path / 'tern_retinanet_r18-lite_shapes.py'))
        write_scalars(path, [], f'2026020{number + 1}_000000', other)
    # A resumed run, which starts from its own checkpoint.
    resumed = cfg.copy()
    resumed.load_from, resumed.resume = str(path / 'epoch_2.pth'), True
    write_scalars(path,
                  train_rows(True)[4:] + val_rows()[2:], '20260301_000000',
                  resumed)
    later, later_stages, missing = stages_of(path)
    assert missing == []
    assert later.start == run.start
    assert later.train == run.train and later.val == run.val
    assert {
        k: average(v.values())
        for k, v in later_stages.items()
    } == {
        k: average(v.values())
        for k, v in stages.items()
    }


def test_a_test_in_the_trainings_process_changes_nothing(report, tmp_path):
    path = tmp_path / 'run'
    shutil.copytree(report[0].parent / 'tern', path)
    before = WorkDir(str(path))
    (config, ) = path.glob('*/vis_data/config.py')
    tested = Config.fromfile(str(config))
    tested.load_from = str(path / 'epoch_4.pth')
    tested.dump(str(config))
    with open(config.with_name('scalars.json'), 'a') as file:
        file.write('{"coco/bbox_mAP": 0.7, "step": 0}\n')
    after = WorkDir(str(path))
    assert after.start == before.start and after.start.endswith('float/'
                                                                'epoch_4.pth')
    assert after.train == before.train and after.val == before.val


def test_a_new_training_in_an_old_work_dir_stands_alone(report, tmp_path):
    path = tmp_path / 'run'
    shutil.copytree(report[0].parent / 'tern', path)
    cfg = WorkDir(str(path)).config
    cfg.load_from = 'new.pth'
    write_scalars(path, train_rows(True)[4:], '20260301_000000', cfg)
    run = WorkDir(str(path))
    assert run.start == 'new.pth'
    assert run.train == train_rows(True)[4:] and run.val == []


def test_repeated_statistics_are_one_measurement(tmp_path):
    rows = [{
        'step': step,
        'iter': step,
        'loss': 1 / step,
        'ternary/lambda': step / 100,
        'ternary/temperature': step // 50 / 2,
        'ternary/neck_zeros': 0.4 + step // 50 / 1000
    } for step in range(10, 210, 10)]
    # Until the first measurement there is none.
    rows = [row for row in rows if row['step'] >= 50]
    assert [row['step']
            for row in without_repeats(rows)] == [50, 100, 150, 200]


def test_losses_of_decoder_layers_are_summed():
    rows = [{
        'step': step,
        'loss': 6.5 * step,
        'loss_ternary': 0.5,
        'loss_cls': 1.0 * step,
        'loss_bbox': 0.25 * step,
        'd0.loss_cls': 2.0 * step,
        'd1.loss_cls': 3.0 * step
    } for step in (1, 2)]
    assert losses_by_kind(rows) == {
        'loss_cls, sum of 3': ([1, 2], [6.0, 12.0]),
        'loss_bbox': ([1, 2], [0.25, 0.5])
    }


def test_a_resumed_run_is_joined(tmp_path):
    rows = train_rows(False)
    write_scalars(tmp_path, rows[:6] + val_rows()[:2], '20260101_000000')
    later = [dict(row, loss=-1.0) for row in rows[4:]]
    write_scalars(tmp_path, later + val_rows()[2:], '20260102_000000')
    with open(tmp_path / '20260102_000000/vis_data/scalars.json', 'a') as file:
        file.write('{"loss": 0.')  # killed while writing
    run = WorkDir(str(tmp_path))
    assert [row['step'] for row in run.train] == [r['step'] for r in rows]
    assert [row['loss'] for row in run.train][4:] == [-1.0] * 4
    assert run.average_precision()[1] == [1, 2, 3, 4]


@pytest.mark.parametrize('keys,iterations,words', [
    (dict(begin=2), [20], 'after epoch 2.'),
    (dict(begin=0.5), [20], 'after 50% of the training.'),
    (dict(), [20], 'after 50% of the training.'),
    (dict(begin=15, by_epoch=False), [15], 'after iteration 15.'),
    (dict(begin=dict(backbone=0.25, neck=2)), [10, 20],
     'after 25% of the training, epoch 2.'),
    (dict(begin=0), [], 'no approach phase'),
])
@pytest.mark.parametrize('where', ['custom_hooks', 'default_hooks'])
def test_switches_by_the_schedule_hook(tmp_path, where, keys, iterations,
                                       words):
    hook = dict(type='TernaryScheduleHook', **keys)
    cfg = Config(
        dict(
            train_cfg=dict(max_epochs=4),
            **{where: [hook] if where == 'custom_hooks' else dict(t=hook)}))
    write_scalars(tmp_path, train_rows(True), cfg=cfg)
    phases = find_phases(WorkDir(str(tmp_path)), dict(epoch=4, iter=40))
    assert phases.iterations == iterations
    assert words in phases.sentence
