"""README and docs name nothing that is not there."""
import ast
import inspect
import re
import runpy
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import HOOKS

import mmtern
from mmtern.analysis.plan import plan_config
from mmtern.convert.convert import ternary_from_config
from mmtern.engine.cli import DATA_SECTION
from mmtern.layers import TWINS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md']
PAGES += sorted((ROOT / 'docs').glob('*.md'))
TEXT = '\n'.join(page.read_text() for page in PAGES)
BLOCKS = re.findall(r'^```(\w+)\n(.*?)^```', TEXT, re.M | re.S)
PROSE = re.sub(r'^```.*?^```', '', TEXT, flags=re.M | re.S)
# May break at a line's end.
INLINE = [' '.join(code.split()) for code in re.findall('`([^`]+)`', PROSE)]


def commands() -> list:
    """Command lines of blocks and of the prose, comments included."""
    blocks = ''.join(text for kind, text in BLOCKS if kind == 'bash')
    lines = blocks.replace('\\\n', ' ').splitlines()
    lines += [c for c in INLINE if re.match('(bash|python|pip|mim) ', c)]
    # Not programs of ours: the shell's own, and pytest.
    others = ('source ', 'python -m pytest')
    return [
        line.strip() for line in dict.fromkeys(lines)
        if line.strip() and not line.startswith(others)
    ]


def parser_of(program: str, monkeypatch):
    """``parse_args`` of one of our programs."""
    if program == 'mmtern':
        return runpy.run_module('mmtern.__main__')['parse_args']
    # Programs import what lies beside them.
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    return runpy.run_path(str(ROOT / program))['parse_args']


def check_arguments(program, arguments, remark, monkeypatch, capsys):
    """The program takes the arguments, and knows the options that a comment
    behind them lists."""
    parse = parser_of(program, monkeypatch)
    monkeypatch.setattr('sys.argv', [program, *arguments])
    parse()
    monkeypatch.setattr('sys.argv', [program, '--help'])
    with pytest.raises(SystemExit):
        parse()
    known = capsys.readouterr().out
    for option in re.findall(r'--[\w-]+', remark):
        assert option in known, f'{program} {option}'


@pytest.mark.parametrize('command', commands())
def test_command(command, monkeypatch, capsys):
    line, _, remark = command.partition(' #')
    words = shlex.split(line)
    for word in words:
        if re.match(r'(configs|tools)/', word):
            assert (ROOT / word).exists(), word
    words = words[next((i for i, word in enumerate(words)
                        if word in ('bash', 'python', 'pip', 'mim')), 0):]
    program, arguments = words[1], words[2:]
    if words[0] == 'pip':
        extras = re.findall(r'mmtern\[(.*?)\]', line)
        setup = (ROOT / 'setup.py').read_text()
        assert all(f"'{extra}': " in setup for extra in extras)
    elif words[0] == 'mim':
        # mim train PACKAGE CONFIG, the rest goes to tools/train.py.
        assert words[1:3] == ['train', 'mmtern']
        assert (ROOT / 'configs' / words[3]).is_file(), words[3]
        check_arguments('tools/train.py', words[3:], '', monkeypatch, capsys)
    elif words[0] == 'bash':
        script = (ROOT / program).read_text()
        if program == 'tools/dist_train.sh':
            config, gpus, *rest = arguments
            assert gpus.isdigit()
            check_arguments('tools/train.py',
                            [config, '--launcher', 'pytorch', *rest], '',
                            monkeypatch, capsys)
        elif program == 'tools/demo.sh':
            check_arguments('tools/demo.py', arguments, '', monkeypatch,
                            capsys)
        else:
            options = [a for a in arguments if a.startswith('--')]
            assert all(option in script for option in options)
        for variable in re.findall('([A-Z_]+)=', line):
            assert variable in script, variable
    elif words[:3] == ['python', '-m', 'mmtern']:
        check_arguments('mmtern', words[3:], remark, monkeypatch, capsys)
    else:
        assert words[0] == 'python', line
        check_arguments(program, arguments, remark, monkeypatch, capsys)


def test_options_in_the_prose_are_known():
    sources = [*(ROOT / 'tools').glob('*.*'), ROOT / 'mmtern/engine/cli.py']
    known = ''.join(path.read_text() for path in sources)
    known += (ROOT / 'tests/conftest.py').read_text()
    options = [
        option for code in INLINE if code.startswith('--')
        for option in re.findall(r'--[\w-]+', code)
    ]
    assert '--launcher' in options
    for option in options:
        assert f"'{option}'" in known or f' {option})' in known, option


def test_the_added_lines_make_a_config_ternary(tmp_path):
    snippets = [text for kind, text in BLOCKS if kind == 'python']
    (snippet, ) = [text for text in snippets if '_base_' in text]
    assert len(snippet.splitlines()) == 5
    path = tmp_path / 'config.py'
    path.write_text(snippet)
    plan = plan_config(Config.fromfile(str(path)))
    assert plan.wrapped and plan.report.ternary_share > 0.9


def without_scopes(node):
    """A config without the scopes that package::path gives to its dicts."""
    if isinstance(node, dict):
        return {
            key: without_scopes(value)
            for key, value in node.items() if key != '_scope_'
        }
    if isinstance(node, (list, tuple)):
        return [without_scopes(child) for child in node]
    return node


def test_the_recipe_makes_our_config_of_any_base(tmp_path):
    (recipe, ) = [t for _, t in BLOCKS if t.startswith("_base_ = ['mmdet::")]
    path = tmp_path / 'config.py'
    path.write_text(recipe)
    shown, ours = (
        without_scopes(Config.fromfile(str(file)).to_dict())
        for file in (path, ROOT / 'configs/tern_retinanet_r50.py'))
    assert shown.pop('load_from') != ours.pop('load_from')
    assert shown == ours


def test_settings_of_other_methods_are_valid():
    snippets = [text for kind, text in BLOCKS if kind == 'python']
    checked = 0
    for snippet in snippets:
        for node in ast.parse(snippet).body:
            names = {}
            exec(ast.unparse(node), {}, names)
            if 'ternary' in names.get('model', {}):
                ternary_from_config(names['model']['ternary'])
                checked += 1
    assert checked >= 3


def test_the_table_of_keys_is_that_of_the_code():
    scope, settings = ternary_from_config(None)
    known = {
        'model.ternary':
        [f.name for x in (scope, settings) for f in fields(x)]
    }
    for name in mmtern.__all__:
        if name.endswith('Hook'):
            signature = inspect.signature(getattr(mmtern, name))
            known[name] = list(signature.parameters)
    where, rows = None, 0
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if not line.startswith('|') or len(cells) < 4:
            where = None
            continue
        where = cells[0].strip('`') or where
        if where in known:
            rows += 1
            for key in re.findall('`([^`]+)`', cells[1]):
                assert key in known[where], f'{where}: {key}'
    assert rows > 8


def test_paths_and_names_are_there():
    for page in PAGES:
        for path in re.findall(r'\]\((?!http)([^)#]+)', page.read_text()):
            assert (page.parent / path).is_file(), f'{page.name}: {path}'
    for code in INLINE:
        if re.fullmatch(r'(mmtern|tools|configs|tests)/[\w./-]+', code):
            assert (ROOT / code).exists(), code
        for name in re.findall(r'mmtern\.(\w+)\(', code):
            assert hasattr(mmtern, name), code
        if re.fullmatch(r'Ternary\w+Hook|Tern[A-Z]\w+', code):
            twins = {twin.__name__ for twin in TWINS.values()}
            assert code in HOOKS or code in MODELS or code in twins, code
    heading = re.search('section "(.*)"', DATA_SECTION)[1]
    assert f'## {heading}\n' in TEXT
