"""The table that ``python -m mmtern inspect`` shows."""
import shlex
from collections import Counter
from typing import Optional

from mmengine.config import Config
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..convert.report import left_for
from ..engine.checkpoints import read_checkpoint
from ..files import provenance
from .expected_sizes import EXPORT, expected_sizes, readable
from .measure import average, measure_model
from .plan import TernaryPlan, plan_config

EXPLANATIONS = {
    'prediction': 'scores, boxes, offsets, points or attention weights; '
    'predictions=True takes it too',
    'stem': 'reads the image; stem=True takes it too',
    'depthwise': 'few weights, sensitive; depthwise=True takes it too',
    'excluded': 'matches a pattern of exclude',
    'not included': 'no pattern of include asks for it',
    'language model': 'finds no boxes; include takes it in',
    'read elsewhere': 'another module computes with its weight',
    'Embedding': 'looked up, multiplies nothing',
    'SAConv2d.weight_diff': 'small beside the ternary weight it is added to',
    'outside the wrapper': 'TernBackbone / TernNeck wrap another part',
}


def inspect_config(cfg: Config,
                   checkpoint: Optional[str],
                   console: Console,
                   every_layer: bool = False) -> None:
    """Show what the config makes ternary and what the model will weigh.

    Args:
        cfg (Config): Float or ternary.
        checkpoint (str, optional): Float or ternary; its weights give zeros,
            cosine and entropy.
        console (Console): Where the tables go.
        every_layer (bool): One row a layer instead of one a reason.
    """
    plan = plan_config(cfg)
    if not plan.wrapped:
        console.print("A float config, surveyed as type='TernDetector' would "
                      'convert it.')
    console.print(
        _layer_table(plan) if every_layer else plan.report.table(_decision))
    parts = Counter(r.name.split('.')[0] for r in plan.report.ternary)
    if parts:
        told = ', '.join(f'{part} {count}' for part, count in parts.items())
        console.print(f'ternary layers: {told}')
    for remark in plan.report.remarks():
        console.print(remark)
    measures = None
    if checkpoint is not None:
        data = read_checkpoint(checkpoint)
        measures = measure_model(plan.model, data['state_dict'])
        if not measures:
            raise ValueError(f'checkpoint {checkpoint!r} holds none of the '
                             'ternary layers of this config')
        means = average(measures.values())
        console.print(
            f'Checkpoint: {means["zeros"]:.1%} zeros, mean cosine to the '
            f'ternary direction {means["cosine"]:.3f}.')
    sizes = expected_sizes(plan.model, measures)
    table = Table(box=SIMPLE_HEAD)
    for head in ('as', 'size', 'smaller', 'remark'):
        table.add_column(
            head, justify='right' if head in ('size', 'smaller') else 'left')
    for size in sizes:
        table.add_row(
            size.format,
            readable(size.size),
            f'{sizes[0].size / size.size:.1f}x',
            size.remark,
            style='bold' if size.format == EXPORT else None)
    console.print(table)
    caution = None
    if checkpoint is not None:
        left = provenance.layers_left_out(plan.model, data, checkpoint)
        if left:
            caution = f'{left}; all numbers above are of the others'
        else:
            caution = provenance.warning(cfg, data, checkpoint, cfg.filename
                                         or 'CONFIG')
    # A warning says itself what to do first.
    console.print(
        f'warning: {caution}'
        if caution else f'next: {_next(cfg, plan, checkpoint)}',
        soft_wrap=True)


def _next(cfg: Config, plan: TernaryPlan, checkpoint: Optional[str]) -> str:
    """What a user of this config does then."""
    config = cfg.filename or 'CONFIG'
    if not plan.wrapped and checkpoint is None:
        kind = cfg.model.get('type', '...')
        return (f"model = dict(type='TernDetector', wrapped='{kind}') in a "
                'config of yours over this one')
    if checkpoint is None:
        command = ['tools/train.py', config]
    elif plan.wrapped:
        command = ['tools/export.py', config, checkpoint, 'OUT.safetensors']
    else:
        command = ['tools/sensitivity.py', config, checkpoint]
    return shlex.join(['python', *command])


def _layer_table(plan: TernaryPlan) -> Table:
    table = Table('layer', 'shape', box=SIMPLE_HEAD)
    table.add_column('weights', justify='right')
    table.add_column('decision')
    for record in plan.report.layers:
        shape = ' x '.join(map(str, record.shape))
        decision = _decision(record.reason) if record.reason else 'ternary'
        if record.min_sparsity:
            decision += f', {record.min_sparsity:.0%} zeros or more'
        table.add_row(record.name, shape, f'{record.weights:,}', decision)
    return table


def _decision(reason: str) -> str:
    if reason in EXPLANATIONS:
        why = EXPLANATIONS[reason]
    elif reason.startswith('read by '):
        why = 'computed with in a way of its own'
    elif '.' in reason:
        why = 'a parameter beside layers, like a table of positions'
    else:
        why = 'layers of this type have no ternary twin'
    return f'{left_for(reason)} ({why})'
