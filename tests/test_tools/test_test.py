"""tools/test.py with a file behind an address."""
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
