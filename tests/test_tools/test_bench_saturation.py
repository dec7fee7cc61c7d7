"""tools/bench_saturation.py without the package that it alone needs."""
import sys

import pytest

from ..tool_runs import make_place, run_tool


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp('place'))


def test_help_needs_no_openvino(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    status, _, said = run_tool(
        place, monkeypatch, capsys, 'bench_saturation --help', whole=True)
    assert status == 0 and 'ONEDNN_MAX_CPU_ISA' in said


def test_what_is_missing_is_said(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    assert run_tool(place, monkeypatch, capsys,
                    'bench_saturation tern.py tern.pth') == (
                        1, 'error: OpenVINO is not installed; run: pip '
                        'install openvino')
