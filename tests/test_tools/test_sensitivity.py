import re
import runpy

import cv2
import pytest

from mmtern import Scope, convert, survey
from ..small_detectors import build, small_faster_rcnn
from ..tool_runs import REPOSITORY, make_place, run_tool


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp('sensitivity'))


def test_each_group_is_measured_and_named_as_a_pattern(place, monkeypatch,
                                                       capsys):
    status, said, shown = run_tool(
        place, monkeypatch, capsys,
        'sensitivity float.py float.pth --images 2 --limit -1000 '
        '--share 100', True)
    assert status == 0, said
    names = re.findall(r'^  ([a-z_]+\.[a-z_0-9]+) ', shown, re.M)
    assert {'backbone.layer1', 'neck.fpn_convs', 'bbox_head.cls_convs'
            } <= set(names) and len(names) == 8
    assert re.search(r'nothing +0 +0\.0 % ', shown)
    assert re.search(r'all of them +31 +100\.0 % ', shown)
    patterns = eval(re.search(r'exclude=(\[.*\])\)', said)[1])
    assert len(patterns) == 8


def tool_of(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / 'tools'))
    return runpy.run_path(str(REPOSITORY / 'tools' / 'sensitivity.py'))


def test_few_weights_that_cost_much_are_named(monkeypatch):
    costly = tool_of(monkeypatch)['costly_groups']
    costs = dict(small=9.0, large=60.0, cheap=1.0, middle=5.0)
    shares = dict(small=0.02, large=0.9, cheap=0.01, middle=0.07)
    assert costly(costs, shares, 2, 0.1) == ['small', 'middle']
    assert costly(costs, shares, 2, 0.05) == ['small']
    assert costly(costs, shares, 2, 1) == ['small', 'middle', 'large']
    assert costly(costs, shares, 2, 0.001) == []


@pytest.mark.parametrize('depth', [1, 2, 3])
def test_patterns_leave_their_group_and_nothing_else(depth, monkeypatch):
    tool = tool_of(monkeypatch)
    records = survey(build(small_faster_rcnn()), Scope()).ternary
    groups = tool['group_layers'](records, depth)
    assert sorted(r.name for group in groups.values()
                  for r in group) == sorted(r.name for r in records)
    for name, group in groups.items():
        rest = {r.name for r in records} - {r.name for r in group}
        if rest:
            report = convert(
                build(small_faster_rcnn()),
                Scope(exclude=[tool['pattern_of'](name)]))
            assert {r.name for r in report.ternary} == rest


def test_a_picture_of_detections_names_ap_and_size(place, monkeypatch, capsys):
    status, said, shown = run_tool(
        place, monkeypatch, capsys,
        'draw_detections out.png --images 2 --crop --model float float.py '
        'float.pth --model ternary tern.py tern.pth', True)
    assert (status, said) == (0, 'wrote out.png')
    for name in ('float', 'ternary'):
        assert re.search(rf'^{name}: AP [\d.]+, [\d.]+ MB$', shown, re.M)
    height, width = cv2.imread(str(place / 'out.png')).shape[:2]
    assert width == 1200 and height > 900
