import re
import shutil
import subprocess

import pytest

pytest.importorskip('plotly')
pytest.importorskip('jinja2')

from mmtern.report import write_report
from mmtern.report.work_dir import WorkDir
from .work_dirs import (train_rows, val_rows, write_images, write_scalars,
                        write_work_dirs)

FIGURES = [
    'ap', 'loss', 'regularizer', 'temperature', 'cosine', 'zeros', 'flips',
    'distance', 'gradient', 'overview', 'detail'
]
# Drawn by plotly once its script ran.
DRAWN = r'id="figure-{}" class="[^"]*js-plotly-plot[^"]*"'
# How many stick out of their place, or are empty.
MEASURE = """<script>window.addEventListener('load', function () {
  setTimeout(function () {
    document.documentElement.dataset.spoiled = Array.from(
      document.querySelectorAll('.js-plotly-plot')).filter(function (plot) {
        var svg = plot.querySelector('.main-svg').getBoundingClientRect();
        return svg.width > plot.getBoundingClientRect().width + 1 ||
          !plot.data.length || plot.data.some(t => !t.x || !t.x.length);
      }).length;
  }, 500); });</script></body>"""


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
    assert text.count('data:image/jpeg;base64') == 2 * 2
    assert 'turned ternary after epoch 2' in text
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
    assert 'data-spoiled="0"' in result.stdout.split('<head>')[0]


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
    for word in ('No config', 'regularizer was off', 'No statistics',
                 'No validation results', '--float'):
        assert word in missing
        assert word in page.read_text()


def test_lost_data_and_checkpoints_are_said(report, tmp_path):
    source = report[0].parent / 'tern'
    (config, ) = source.glob('*.py')
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
