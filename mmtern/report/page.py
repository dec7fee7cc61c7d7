"""The page: one self-contained HTML file made from a work directory."""
import json
import os.path as osp
from datetime import date
from typing import Any, Dict, List, Optional

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, select_autoescape
from plotly.offline import get_plotlyjs

from .. import __version__
from ..analysis.plan import plan_config
from ..engine.checkpoints import read_checkpoint
from ..files import provenance
from ..files.container import check_target, write_atomically
from ..files.sizes import megabytes
from . import results
from .phases import find_phases
from .sections import (curve_sections, histogram_section, run_section,
                       stage_measures, table_section)
from .theme import DARK, FLOAT, TERNARY
from .work_dir import WorkDir

TEST_IMAGES = 200


def write_report(work_dir: str,
                 out: str,
                 float_dir: Optional[str] = None,
                 images: int = 4,
                 test_images: int = TEST_IMAGES) -> List[str]:
    """Draw what a training did into one HTML file.

    Args:
        work_dir (str): Of the ternary training.
        out (str): The file to write.
        float_dir (str, optional): Of its float twin.
        images (int): Test images to show; 0 for none.
        test_images (int): Test images to measure accuracy on, at most, evenly
            spaced; 0 for none, and none are shown.

    Returns:
        list[str]: What is missing, as the page says it.

    Raises:
        ValueError: If a directory is none of a training, or of the other
            kind of training.
        OSError: If ``out`` is a folder, or lies in none.
    """
    run = WorkDir(work_dir)
    check_target(out, force=True)
    twin = WorkDir(float_dir) if float_dir else None
    _check_kind(run, twin)
    meta = {}
    if run.last_checkpoint:
        meta = read_checkpoint(run.last_checkpoint)['meta']
    phases = find_phases(run, meta)
    tested = results.test_detectors(run, twin, test_images if images else 0)
    first = [
        results.precision_section(run, twin, tested),
        results.detection_section(tested, images)
    ]
    details = curve_sections(run, twin, phases)
    stages: Dict[str, Any] = {}
    sizes: List[results.Size] = []
    if run.config is None:
        first[0].missing.append('No config was found, so the page shows '
                                'neither layers nor images.')
    else:
        plan = plan_config(run.config)
        missing: List[str] = []
        stages = stage_measures(run, plan, phases, missing)
        details += [
            histogram_section(stages, missing),
            table_section(plan, stages)
        ]
        sizes = results.sizes_of(run, plan)
        first.append(results.size_section(sizes, tested))
    details.append(run_section(run.facts(meta)))
    _write(
        out,
        title=run.name,
        work_dir=osp.basename(osp.abspath(run.path)),
        phases=phases.sentence,
        tiles=results.tiles(run, twin, tested, stages, sizes),
        first=first,
        details=details,
        commands=results.next_commands(run, twin))
    return [
        sentence for section in first + details for sentence in section.missing
    ]


def _check_kind(run: WorkDir, twin: Optional[WorkDir]) -> None:
    """Refuse a float run as the ternary one, and the other way round."""
    own = provenance.of_config(run.config or {})
    if own is not None and not own.ternary:
        raise ValueError(f'{run.path!r} is a float run: name the ternary one '
                         'first, and give this one with --float')
    other = provenance.of_config((twin and twin.config) or {})
    if twin is not None and other is not None and other.ternary:
        raise ValueError(f'--float takes the float twin, but {twin.path!r} is '
                         'a ternary run')


def _div(name: str, figure: go.Figure) -> str:
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f'figure-{name}',
        config=dict(displaylogo=False, responsive=True, displayModeBar=False))


def _write(out: str, **content: Any) -> None:
    environment = Environment(
        loader=PackageLoader('mmtern.report', ''),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True)
    page = environment.get_template('template.html').render(
        div=_div,
        megabytes=megabytes,
        plotly=get_plotlyjs(),
        colors=dict(float=FLOAT, ternary=TERNARY),
        dark=json.dumps(DARK),
        version=__version__,
        date=date.today().isoformat(),
        **content)
    write_atomically(out, page.encode(), force=True)
