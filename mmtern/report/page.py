"""From a work directory to one self-contained HTML file."""
import os.path as osp
from datetime import date
from typing import List, Optional

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, select_autoescape
from plotly.offline import get_plotlyjs

from .. import __version__
from ..analysis.expected_sizes import readable
from ..analysis.measure import average
from ..analysis.plan import plan_config
from ..engine.checkpoints import read_checkpoint
from ..engine.cli import require_data
from .detections import SCORE_THRESHOLD, class_color, detect
from .phases import Phases, find_phases
from .sections import (Section, curve_sections, histogram_section,
                       size_section, stage_measures, table_section)
from .theme import FLOAT, TERNARY
from .work_dir import WorkDir


def write_report(work_dir: str,
                 out: str,
                 float_dir: Optional[str] = None,
                 images: int = 4) -> List[str]:
    """Draw what a training did into one HTML file.

    Args:
        work_dir (str): Of the ternary training.
        out (str): The file to write.
        float_dir (str, optional): Of its float twin.
        images (int): Test images to show; 0 for none.

    Returns:
        list[str]: What is missing, as the page says it.

    Raises:
        ValueError: If a directory is none of a training.
    """
    run = WorkDir(work_dir)
    twin = WorkDir(float_dir) if float_dir else None
    meta = {}
    if run.last_checkpoint:
        meta = read_checkpoint(run.last_checkpoint)['meta']
    phases = find_phases(run, meta)
    sections = curve_sections(run, twin, phases)
    facts = _precision_facts(run, twin)
    if run.config is None:
        sections[0].missing.append('No config was found, so the page shows '
                                   'neither layers nor images.')
    else:
        plan = plan_config(run.config)
        missing: List[str] = []
        stages = stage_measures(run, plan, phases, missing)
        sizes = size_section(run, plan, stages)
        sections += [
            histogram_section(stages, missing),
            _detection_section(run, twin, images), sizes,
            table_section(plan, stages)
        ]
        end = stages.get('at the end')
        if end:
            means = average(end.values())
            bits = means['bits_per_weight']
            facts.append(
                ('zeros', f'{means["zeros"]:.0%}', 'of the ternary weights'))
            facts.append(('entropy', f'{bits:.2f}', 'bits a weight'))
        full, packed = (
            s.size for s in (sizes.data['sizes'][0], sizes.data['sizes'][3]))
        facts.append(('size at 2 bits', readable(packed),
                      f'of {readable(full)} in float32'))
    _render(run, phases, sections, facts, out)
    return [sentence for section in sections for sentence in section.missing]


def _precision_facts(run: WorkDir, twin: Optional[WorkDir]) -> list:
    facts = []
    for name, source in (('ternary', run), ('float', twin)):
        _, steps, values = source.average_precision() if source else (0, 0, 0)
        if values:
            facts.append(
                (f'AP, {name}', f'{values[-1]:.1f}', f'epoch {steps[-1]}'))
    return facts


def _detection_section(run: WorkDir, twin: Optional[WorkDir],
                       count: int) -> Section:
    section = Section(
        'detections', 'Detections',
        f'Images of the test set, detections scored {SCORE_THRESHOLD} or '
        'more; hover for the score.')
    models = []
    for name, source in (('float', twin), ('ternary', run)):
        if source and source.config and source.last_checkpoint:
            models.append((name, source.config, source.last_checkpoint))
        elif source:
            section.missing.append(f'The {name} run has no checkpoint.')
    if not count or not models:
        section.missing.append('No images were asked for.' if (
            not count) else 'There is nothing to detect with.')
        return section
    try:
        require_data(run.config, 'test_dataloader')
        pictures, classes = detect(models, count)
    except (SystemExit, OSError, ValueError) as error:
        # The data set lies elsewhere: the rest of the page still stands.
        section.missing.append('No images: ' +
                               str(error).replace('error: ', '') + '.')
        return section
    section.data['pictures'] = pictures
    section.data['classes'] = [(name, class_color(index))
                               for index, name in enumerate(classes)]
    return section


def _div(name: str, figure: go.Figure) -> str:
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f'figure-{name}',
        config=dict(displaylogo=False, responsive=True, displayModeBar=False))


def _render(run: WorkDir, phases: Phases, sections: List[Section], facts: list,
            out: str) -> None:
    environment = Environment(
        loader=PackageLoader('mmtern.report', ''),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True)
    page = environment.get_template('template.html').render(
        title=run.name,
        work_dir=osp.basename(osp.abspath(run.path)),
        phases=phases.sentence,
        sections=sections,
        facts=facts,
        div=_div,
        readable=readable,
        plotly=get_plotlyjs(),
        colors={
            'float': FLOAT,
            'ternary': TERNARY
        },
        version=__version__,
        date=date.today().isoformat())
    with open(out, 'w', encoding='utf-8') as file:
        file.write(page)
