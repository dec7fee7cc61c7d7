"""tools/test.py with files that are not a config's own checkpoint."""
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from ..tool_runs import make_place, run_tool


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp('place'))


@pytest.fixture
def server(place, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(place / 'home'))
    handler = partial(SimpleHTTPRequestHandler, directory=str(place))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_a_packed_file_behind_an_address(place, server, monkeypatch, capsys):
    status, said = run_tool(place, monkeypatch, capsys,
                            'export tern.py tern.pth a.safetensors')
    assert status == 0, said
    lines = []
    for path in ('a.safetensors', f'{server}/a.safetensors?signed=1'):
        status, _, shown = run_tool(place, monkeypatch, capsys,
                                    f'test tern.py {path} --work-dir work',
                                    True)
        assert status == 0
        lines.append(shown.splitlines()[-1])
    assert lines[0] == lines[1] and lines[0].startswith('test AP ')


def test_other_classes_end_in_a_warning(place, monkeypatch, capsys):
    status, said = run_tool(place, monkeypatch, capsys,
                            'export tern.py tern.pth b.safetensors')
    assert status == 0, said
    assert run_tool(
        place, monkeypatch, capsys,
        'test tern.py b.safetensors --work-dir work --cfg-options test_'
        'dataloader.dataset.metainfo.classes=[square,circle,triangle]') == (
            0,
            'warning: b.safetensors was made for other classes than the test '
            "data set has: number 0 is 'circle', not 'square'")
