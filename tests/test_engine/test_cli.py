"""Mistakes of a config or a command line, and the sentence each gets."""
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub

from mmtern import TernaryFileError, load_detector
from mmtern.engine.cli import require_model
from ..tool_runs import REPOSITORY, make_place, run_tool


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp('mistakes'))


SET = '--cfg-options load_from=float.pth '
MISTAKES = {
    'train none.py':
    "config 'none.py' does not exist",
    'train ter.py':
    "did you mean 'tern.py'?",
    'train broken.py':
    "config 'broken.py' cannot be read: SyntaxError",
    'train base.py':
    "config 'base.py' cannot be read",
    'train part.py':
    'part.py lacks train_dataloader, train_cfg, optim_wrapper',
    'train':
    'the following arguments are required: config',
    'train tern.py --ampp':
    'unrecognized arguments: --ampp',
    'train tern.py --resume gone.pth':
    "--resume 'gone.pth' does not exist",
    'train tern.py --cfg-options load_from=work_dirs/float/x.pth':
    "load_from 'work_dirs/float/x.pth' does not exist; \"python "
    'tools/train.py float.py" makes it',
    'train tern.py --cfg-options model.backbone.depth':
    "--cfg-options takes key=value, but got 'model.backbone.depth'",
    'train tern.py --cfg-options modell.backbone.depth=18':
    "did you mean 'model'?",
    f'train tern.py {SET} ternary_hooks.ternary.begin=0.3':
    'write default_hooks.ternary.begin=...',
    f'train tern.py {SET} ternary_backbone.frozen_stages=1':
    'write model.backbone.frozen_stages=...',
    'train tern.py --cfg-options model.backbone.depth.x=1':
    'cannot be merged into the config',
    f'train tern.py {SET} model.wrapped=RetinaNett':
    "wrapped='RetinaNett' names no registered model; did you mean "
    "'RetinaNet'?",
    f'train tern.py {SET} model.type=TernDetectr':
    "did you mean 'TernDetector'?",
    f'train tern.py {SET} model.ternary.treshold=exact':
    "unknown key 'treshold' in ternary=dict(...): did you mean 'threshold'?",
    f'train tern.py {SET} model.ternary.exclude=[nothing_like_it]':
    "'nothing_like_it', which matches no layer",
    f'train tern.py {SET} model.backbone.dept=18':
    "unexpected keyword argument 'dept'",
    f'train tern.py {SET} optim_wrapper.optimizer.type=AdmW':
    "'AdmW', which is no registered optimizer; did you mean 'AdamW'?",
    f'train tern.py {SET} default_hooks.timer.type=IterTimeHook':
    "did you mean 'IterTimerHook'?",
    f'train tern.py {SET} val_dataloader.dataset.ann_file=gone.json':
    "val_dataloader needs 'data/shapes/gone.json', which does not exist",
    f'train tern.py --work-dir /dev/null/x {SET}':
    "Not a directory: '/dev/null/x'",
    'train tern.py --auto-scale-lr --cfg-options '
    'auto_scale_lr._delete_=True':
    '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...)',
    'test tern.py gone.pth':
    "checkpoint 'gone.pth' does not exist",
    'test tern.py text.pth':
    "'text.pth' cannot be loaded as a checkpoint",
    'test tern.py text.safetensors':
    'it is no safetensors file',
    'test tern.py tern.pth --out x.json':
    "--out must end in .pkl or .pickle, but got 'x.json'",
    'test faster.py tern.pth --work-dir work':
    "checkpoint 'tern.pth' was trained as a ternary RetinaNet and does not "
    "fit the config's FasterRCNN",
    'test tern.py tern.pth --work-dir work --cfg-options '
    'model.wrapped=RetinaNett':
    "names no registered model; did you mean 'RetinaNet'?",
    'test tern.py tern.pth --work-dir work --cfg-options '
    'model.ternary.treshold=exact':
    "unknown key 'treshold' in ternary=dict(...): did you mean 'threshold'?",
    'test tern.py tern.pth --work-dir work --cfg-options '
    'test_dataloader.dataset.ann_file=gone.json':
    "test_dataloader needs 'data/shapes/gone.json', which does not exist",
    'export tern.py tern.pth new.safetensors --cfg-options '
    'model.wrapped=RetinaNett':
    "names no registered model; did you mean 'RetinaNet'?",
    'export tern.py tern.pth new.safetensors --cfg-options '
    'model.ternary.treshold=exact':
    "unknown key 'treshold' in ternary=dict(...): did you mean 'threshold'?",
    'mmtern inspect tern.py --cfg-options model.wrapped=RetinaNett':
    "names no registered model; did you mean 'RetinaNet'?",
    'mmtern inspect tern.py --cfg-options model.ternary.treshold=exact':
    "unknown key 'treshold' in ternary=dict(...): did you mean 'threshold'?",
    'mmtern inspect tern.py gone.pth':
    "checkpoint 'gone.pth' does not exist",
    'mmtern inspekt tern.py':
    "invalid choice: 'inspekt'",
    'export tern.py tern.pth out.pt':
    "OUT must end in .safetensors or .onnx, but got 'out.pt'",
    'export tern.py tern.pth tern.py.safetensors --input-size 64 64':
    "--input-size does not apply to 'tern.py.safetensors'",
    'export tern.py tern.pth new.safetensors --calibrate 0':
    "--calibrate does not apply to 'new.safetensors'",
    'export tern.py tern.pth new.onnx --raw --keep neck':
    "keep names layers that stay float beside 8-bit ones, but got keep=['neck'"
    "] and activations='float'",
    'export tern.py tern.pth text.safetensors':
    "'text.safetensors' exists and is left as it is; --force replaces it",
    'export float.py float.pth out.safetensors':
    'RetinaNet has no ternary layers: export it with the config it was',
    'export faster.py tern.pth out.safetensors':
    "cannot be loaded into the config's model",
    'sensitivity tern.py float.pth':
    'tern.py is ternary already; give the float config',
    'sensitivity float.py tern.pth':
    'this checkpoint was trained ternary (tern.pth)',
    'sensitivity float.py float.pth --images 0':
    '--images and --depth must be at least 1, but got 0 and 2',
    'draw_detections x.png --model t tern.py gone.pth':
    "checkpoint 'gone.pth' does not exist",
    'demo --epochs 1 1':
    '--epochs must be at least 1 and 2',
    'report gone':
    "work directory 'gone' does not exist",
    'report empty':
    "'empty' holds neither a config nor",
    'report empty --images -1':
    '--images must be 0 or more, but got -1',
}


@pytest.mark.parametrize('line', MISTAKES)
def test_a_mistake_gets_its_sentence(line, place, monkeypatch, capsys):
    status, said = run_tool(place, monkeypatch, capsys, line)
    assert status == 1
    assert said.startswith('error: ') and '\n' not in said
    assert MISTAKES[line] in said


WARNINGS = {
    'test tern.py float.pth --work-dir work':
    'this checkpoint was trained in float (float.pth); ternarized untrained',
    'test float.py tern.pth --work-dir work':
    'this checkpoint was trained ternary (tern.pth), but float.py computes',
    'export tern.py float.pth untrained.safetensors --force':
    'this checkpoint was trained in float (float.pth); ternarized untrained',
    'test tern.py untrained.safetensors --work-dir work':
    'float checkpoint that was never trained ternary',
    'mmtern inspect tern.py float.pth':
    'this checkpoint was trained in float (float.pth); ternarized untrained',
    'mmtern inspect float.py tern.pth':
    'this checkpoint was trained ternary (tern.pth), but float.py computes',
    'mmtern inspect faster.py tern.pth':
    'tern.pth (a ternary RetinaNet) holds no fitting weights for 8 of 30 '
    'ternary layers, like neck.lateral_convs.0.conv; all numbers above are of '
    'the others',
    'mmtern inspect tern.py untrained.safetensors':
    'float checkpoint that was never trained ternary',
}


@pytest.mark.parametrize('line', WARNINGS)
def test_checkpoints_that_do_not_belong_end_in_a_warning(
        line, place, monkeypatch, capsys):
    status, said = run_tool(place, monkeypatch, capsys, line)
    assert status == 0
    assert said.startswith('warning: ')
    assert WARNINGS[line] in said


def test_an_untrained_file_warns_where_it_is_loaded(place, monkeypatch,
                                                    capsys):
    run_tool(place, monkeypatch, capsys,
             'export tern.py float.pth raw.safetensors --force')
    with pytest.warns(UserWarning, match='raw.safetensors.*never trained'):
        load_detector(str(place / 'raw.safetensors'))


@pytest.mark.parametrize('name', ['tern.pth', 'out.onnx'])
def test_only_packed_files_are_detectors_alone(place, name):
    with pytest.raises(TernaryFileError, match=r'packed .safetensors file'):
        load_detector(str(place / name))


def test_a_float_run_is_not_resumed_as_a_ternary_one(place, monkeypatch,
                                                     capsys):
    """As ``resume=True`` does beside the ``load_from`` of the recipe."""
    checkpoint = torch.load(place / 'float.pth')
    hub = MessageHub('a float run').state_dict()
    torch.save(dict(checkpoint, message_hub=hub), place / 'begun.pth')
    for options in ('--cfg-options load_from=begun.pth resume=True',
                    '--resume begun.pth'):
        status, said = run_tool(place, monkeypatch, capsys,
                                f'train tern.py --work-dir resumed {options}')
        assert status == 1 and said.startswith(
            "error: this ternary run would resume the float run of 'begun.pth'"
            ' at iteration 1: write resume=False to begin with its weights')


def test_a_hook_with_a_priority_is_no_mistake(place):
    cfg = Config.fromfile(str(place / 'tern.py'))
    cfg.default_hooks.ternary.priority = 'LOW'
    require_model(cfg, 'tern.py', training=True)
    assert cfg.default_hooks.ternary.priority == 'LOW'


def test_inspect_ends_with_what_to_do_next(place, monkeypatch, capsys):
    for line, told in (('float.py',
                        "next: model = dict(type='TernDetector', wrapped="
                        "'RetinaNet') in a config of yours over this one"),
                       ('tern.py', 'next: python tools/train.py tern.py'),
                       ('float.py float.pth',
                        'next: python tools/sensitivity.py float.py '
                        'float.pth'),
                       ('tern.py tern.pth',
                        'next: python tools/export.py tern.py tern.pth '
                        'OUT.safetensors')):
        assert run_tool(place, monkeypatch, capsys,
                        f'mmtern inspect {line}') == (0, told)


TOOLS = ('demo', 'detect', 'draw_detections', 'export', 'make_shapes',
         'report', 'sensitivity', 'split_voc07', 'test', 'test_onnx', 'train',
         'voc2coco')


@pytest.mark.parametrize('name', TOOLS)
def test_help_ends_in_an_example_that_is_right(name, monkeypatch, capsys):
    if name == 'detect':
        pytest.importorskip('onnxruntime')
    tools = REPOSITORY / 'tools'
    monkeypatch.syspath_prepend(str(tools))
    monkeypatch.setattr('sys.argv', [name, '--help'])
    parse = runpy.run_path(str(tools / f'{name}.py'))['parse_args']
    with pytest.raises(SystemExit) as end:
        parse()
    assert end.value.code == 0
    shown, _, example = capsys.readouterr().out.partition('example:')
    assert shown.startswith('usage: ')
    python, tool, *arguments = shlex.split(example)
    assert (python, tool) == ('python', f'tools/{name}.py')
    monkeypatch.setattr('sys.argv', [name, *arguments])
    parse()


def test_a_test_ends_in_one_line_that_says_it_all(place, monkeypatch, capsys):
    for line, words in (('test tern.py tern.pth --work-dir work',
                         r'ternary, [\d.]+ % zeros'),
                        ('test float.py float.pth --work-dir work', 'float')):
        status, said = run_tool(place, monkeypatch, capsys, line)
        assert status == 0
        assert re.fullmatch(
            rf'test AP [\d.]+, AP50 [\d.]+; {words}, [\d.]+ MB', said)


def test_the_demo_asks_for_its_packages_before_it_trains(
        place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    status, said = run_tool(place, monkeypatch, capsys, 'demo')
    assert status == 1
    assert said.startswith('error: ONNX needs onnxruntime >= ')


def test_commands_to_copy_are_quoted(place, monkeypatch, capsys):
    """As a shell takes them: paths may hold spaces."""
    folder = place / 'a folder'
    folder.mkdir()
    for name in ('tern.py', 'tern.pth'):
        shutil.copy(place / name, folder / name)
    for line, command in (
        ("export 'a folder/tern.py' 'a folder/tern.pth' 'a folder/out."
         "safetensors'", "test it: python tools/test.py 'a folder/tern.py' "
         "'a folder/out.safetensors'"),
        ("mmtern inspect 'a folder/tern.py' 'a folder/tern.pth'",
         "next: python tools/export.py 'a folder/tern.py' 'a folder/tern.pth' "
         'OUT.safetensors')):
        status, said = run_tool(place, monkeypatch, capsys, line)
        assert status == 0 and said.endswith(command)


def test_the_demo_reads_what_the_tools_say(place, monkeypatch, capsys):
    demo = runpy.run_path(str(REPOSITORY / 'tools' / 'demo.py'))
    _, said = run_tool(place, monkeypatch, capsys,
                       'test tern.py tern.pth --work-dir work')
    assert demo['TESTED'].search(f'...\n{said}\n')[3].startswith('ternary, ')
    _, said = run_tool(place, monkeypatch, capsys,
                       'export tern.py tern.pth told.safetensors --force')
    assert demo['WROTE'].search(f'...\n{said}\n')
    assert said.startswith('wrote told.safetensors: ')
    assert said.endswith('smaller, equal bit by bit; test it: python '
                         'tools/test.py tern.py told.safetensors')


@pytest.mark.parametrize('target', ['narrow.safetensors', 'narrow.onnx'])
def test_export_fits_a_terminal(place, monkeypatch, capsys, target):
    if target.endswith('.onnx'):
        pytest.importorskip('onnxruntime', '1.24')
    monkeypatch.setenv('COLUMNS', '80')
    status, said, shown = run_tool(
        place, monkeypatch, capsys, f'export tern.py tern.pth {target} '
        f'--force{" --activations float" * target.endswith(".onnx")}', True)
    assert status == 0, said
    assert said.startswith(f'wrote {target}: ')
    table, _, _ = shown.partition('wrote ')
    assert ' ratio' in table and '\u2026' not in table
    rows = [x for x in table.splitlines() if re.match('  .* MB', x)]
    assert rows and max(map(len, rows)) <= 80


def test_a_bug_keeps_its_traceback(place, monkeypatch, capsys):
    (place / 'bug.py').write_text((place / 'tern.py').read_text() +
                                  "custom_imports = dict(imports=['faulty'], "
                                  'allow_failed_imports=False)\n'
                                  "model.update(type='Faulty')\n")
    (place / 'faulty.py').write_text(
        'from mmdet.registry import MODELS\n\n\n'
        "@MODELS.register_module(force=True)\n"
        'def Faulty(**keys):\n    return None.missing\n')
    monkeypatch.syspath_prepend(str(place))
    with pytest.raises(AttributeError):
        run_tool(place, monkeypatch, capsys, 'train bug.py')


def test_python_is_told_the_exit_status_and_no_traceback(tmp_path):
    result = subprocess.run([
        sys.executable,
        str(REPOSITORY / 'tools' / 'train.py'),
        str(REPOSITORY / 'configs' / 'tern_retinanet_r18-lite_bccd.py')
    ],
                            cwd=tmp_path,
                            capture_output=True,
                            text=True)
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    *_, line = result.stderr.splitlines()
    assert line.startswith('error: train_dataloader needs ')
    assert 'README.md, section "Data"' in line
    assert 'OneDL' not in result.stdout


@pytest.mark.parametrize('config,load_from,words', [
    ('tern.py', None, None),
    ('tern.py', 'faster.pth', '(a ternary FasterRCNN) holds no fitting '
     'weights for 9 of 31 ternary layers'),
    ('faster.py', 'tern.pth', '(a ternary RetinaNet) holds no fitting weights '
     'for 8 of 30 '),
    ('float.py', 'tern.pth', 'this checkpoint was trained ternary'),
    ('tern.py', 'float.pth', None),
    ('tern.py', 'tern.pth', None),
    ('float.py', None, None),
])
def test_what_is_odd_about_the_start_is_said(place, monkeypatch, config,
                                             load_from, words):
    monkeypatch.chdir(place)
    tool = runpy.run_path(str(REPOSITORY / 'tools' / 'train.py'))
    cfg = Config.fromfile(config)
    cfg.load_from = load_from
    found = tool['remarks'](cfg, MODELS.build(cfg.model), config)
    assert len(found) == (words is not None)
    assert words is None or words in found[0]
