"""The page's sections, each a heading with figures or a sentence on what is
missing."""
import os.path as osp
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import plotly.graph_objects as go

from ..analysis.measure import measure_model
from ..analysis.plan import TernaryPlan
from ..engine.checkpoints import read_checkpoint
from . import curves
from .histograms import Stages, detail_figure, overview_figure
from .phases import Phases
from .work_dir import WorkDir


@dataclass
class Section:
    """A part of the page.

    Attributes:
        anchor (str): Id in the page.
        title (str): Heading.
        text (str): What the reader sees, in a sentence or two.
        figures (dict): plotly figures by id.
        missing (list[str]): Sentences on what could not be shown.
        notes (list[str]): Sentences on what was not there by choice.
        data (dict): What the template draws itself (tables, images).
    """
    anchor: str
    title: str
    text: str
    figures: Dict[str, go.Figure] = field(default_factory=dict)
    missing: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    data: Dict[str, Any] = field(default_factory=dict)

    def add(self,
            name: str,
            figure: Optional[go.Figure],
            otherwise: Optional[str],
            by_choice: bool = False) -> None:
        """Show a figure, or say why there is none."""
        if figure is not None:
            self.figures[name] = figure
        elif otherwise:
            (self.notes if by_choice else self.missing).append(otherwise)


def curve_sections(run: WorkDir, twin: Optional[WorkDir],
                   phases: Phases) -> List[Section]:
    """Return the sections of losses, schedule and statistics."""
    switches = phases.iterations
    shaded = (' The shaded part is the approach phase.') if switches else ''
    window = (run.config or {}).get('log_processor', {}).get('window_size', 10)
    losses = Section(
        'losses', 'Losses', f'As logged, which is the mean over the last '
        f'{window} iterations.{shaded}')
    losses.add('loss', curves.loss_figure(run, switches, twin),
               'No losses: vis_data/scalars.json has no training lines.')
    schedule = Section(
        'schedule', 'Schedule',
        'The learning rate; the temperature narrows the gradient to weights '
        'near their threshold; the regularizer turns filters towards ternary '
        'directions, with strength lambda; its loss is a mean, too.')
    schedule.add('rate', curves.rate_figure(run), None)
    schedule.add(
        'temperature', curves.temperature_figure(run, switches),
        'No temperature was recorded; TernaryStatisticsHook does it.')
    schedule.add(
        'regularizer',
        curves.regularizer_figure(run, switches),
        'The regularizer was off.',
        by_choice=True)
    weights = Section(
        'weights', 'How ternary the weights are',
        'Cosine to the nearest ternary direction, share of zeros, share of '
        'weights whose ternary value changed, distance to the filter\'s '
        'threshold δ, and norm of the latent weights\' gradient.')
    parts = curves.logged_parts(run)
    if parts:
        weights.data['key'] = list(parts.items())
        weights.figures.update(curves.statistics_figures(run, parts, switches))
    else:
        weights.missing.append(
            'No statistics were recorded; TernaryStatisticsHook does it.')
    return [losses, schedule, weights]


def stage_measures(run: WorkDir, plan: TernaryPlan, phases: Phases,
                   missing: List[str]) -> Stages:
    """Measure the layers at the start (before approach), before the switch and
    at the end, as far as there are checkpoints."""
    sources = {
        'at the start':
        (run.start_checkpoint,
         'The checkpoint that training started from (load_from) is '
         'not there.'),
        'before the switch':
        (_before_switch(run, phases),
         'No checkpoint from before the switch was kept.' if
         (phases.switches) else ''),
        'at the end':
        (run.last_checkpoint, 'There is no checkpoint of this run yet.'),
    }
    stages: Stages = {}
    for stage, (path, otherwise) in sources.items():
        if path is None:
            if otherwise:
                missing.append(otherwise)
            continue
        state = read_checkpoint(path)['state_dict']
        measures = measure_model(plan.model, state)
        if measures:
            stages[stage] = measures
        else:
            missing.append(f'{osp.basename(path)} holds none of the ternary '
                           'layers of this config.')
    return stages


def _before_switch(run: WorkDir, phases: Phases) -> Optional[str]:
    """Return the last checkpoint of the approach phase."""
    if not phases.iterations:
        return None
    length = phases.epoch_length
    earlier = [
        path for step, path in run.checkpoints(length).items()
        if step <= phases.iterations[0]
    ]
    return earlier[-1] if earlier else None


def histogram_section(stages: Stages, missing: List[str]) -> Section:
    """Return the section of histograms of the weights relative to their
    filter's threshold δ."""
    section = Section(
        'histograms',
        'Weights against their threshold',
        'Density of |w| / δ, δ the threshold of the filter: below 1 a weight '
        'becomes zero, above it ±a. Ternary weights at rest would gather '
        'at 0 and 2. A row is a layer, in the order of the table below.',
        missing=missing)
    if stages:
        section.figures['overview'] = overview_figure(stages)
        section.figures['detail'] = detail_figure(stages)
    return section


def table_section(plan: TernaryPlan, stages: Stages) -> Section:
    """Return the section with the table of ternary layers and of those that
    were left."""
    section = Section(
        'layers', 'Layers',
        f'{plan.report.ternary_share:.1%} of the weights in '
        'convs and linears are ternary. Bits are those that independent '
        'weights with these zeros would need.')
    if 'at the end' not in stages:
        section.missing.append('Zeros, cosine and bits need a checkpoint.')
    end = stages.get('at the end', {})
    section.data['ternary'] = [(r, end.get(r.name))
                               for r in plan.report.ternary]
    section.data['left'] = plan.report.left_by_reason()
    return section


def run_section(facts: List[Tuple[str, str]]) -> Section:
    """Return the section of command, seed and versions."""
    section = Section('run', 'How it was run', '')
    section.data['facts'] = facts
    if not facts:
        section.missing.append('The log of the training is not there.')
    return section
