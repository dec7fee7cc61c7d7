"""The sweep's records as Markdown."""
import re
from typing import Any, Dict, List

# What a config should reach, and how much of its weights is worth a word.
REACH, MENTIONED = 0.95, 0.005
WORDS = {
    'prediction': 'predictions',
    'depthwise': 'depthwise convs',
    'Embedding': 'embeddings',
    'AbsolutePositionEmbedding.pos_embed': 'position embeddings'
}


def verdict(record: Dict[str, Any]) -> str:
    """'ok', 'failed' (ours) or 'float fails' (not counted)."""
    if record['stage'] == 'done':
        return 'ok'
    return 'failed' if record['stage'] == 'ternary' else 'float fails'


def markdown(records: List[Dict[str, Any]], versions: str) -> str:
    """Share on top, then what is ternary, what failed, what mmdet's own
    model could not do, and what stays full precision."""
    groups: Dict[str, list] = {'ok': [], 'failed': [], 'float fails': []}
    for record in records:
        groups[verdict(record)].append(record)
    ok, failed, floats = groups.values()
    runs = len(ok) + len(failed)
    folders = {record['config'].split('/')[0] for record in records}
    run_folders = {x['config'].split('/')[0] for x in ok + failed}
    lines = [
        '# Which mmdet detectors go ternary', '',
        f'**{len(ok)} of {runs} configs ({len(ok) / max(runs, 1):.1%})** '
        'whose float model runs on the test machine are built, loaded '
        'strictly from float weights, trained for a step and run as ternary '
        'detectors. The sweep takes the smallest config of each of the '
        f'{len(folders)} model folders in the installed mmdet (a second kind '
        'of model where the float model of the first does not run); in '
        f'{len(folders - run_folders)} of them no float model runs there.', '',
        f'`python tools/zoo_sweep.py` wrote this table with {versions}.', '',
        'A row is named by its folder in mmdet, and the kind of model where '
        'that is another; ZOO.json beside this page has the names of the '
        'configs and of the layers. Ternary: the share of all parameters, '
        'those of norms and biases among them, by default; all: with stem, '
        'predictions and depthwise convs, too. By default at least 95 % of '
        f'the weights are ternary in {_reach(ok, "share")} of the configs, '
        'with them in '
        f'{_reach(ok, "share_all")}; [what keeps the others '
        'below](#below-95-) is told for each. Idle: ternary layers that '
        'prediction does not use (auxiliary heads, teachers). Float: layers '
        'left in full precision by default.', '',
        'In each row what the ternary detector puts out, predictions and, '
        'where its kind computes them in eval, losses, equals bit by bit what '
        'plain layers of mmdet and torch put out that hold the ternary '
        'weights as their parameters.', '',
        '| Model | Layers | Ternary | All | Idle | Float |',
        '|---|---|---|---|---|---|'
    ]
    for record in ok:
        lines.append(f'| {_name(record)} | {record["layers"]} | '
                     f'{record["share"]:.1%} | {record["share_all"]:.1%} | '
                     f'{record["idle"]} | '
                     f'{_left(record)} |')
    lines += _exceptions(ok)
    lines += _failures('Failed', failed)
    lines += _failures('Not counted: the float model does not run', floats)
    return '\n'.join(lines) + '\n'


def _exceptions(records: List[Dict[str, Any]]) -> List[str]:
    """A row for each config that is below ``REACH`` by default."""
    lines = [
        '', '## Below 95 %', '',
        'Predictions are classifiers, most of a head with hundreds of '
        'classes, box regressors, and offsets and attention weights of '
        'deformable layers: an option takes them in, as it does depthwise '
        'convs. Embeddings are looked up and multiply nothing. '
        '`SAConv2d.weight_diff` is added to filters that are ternary. Norms '
        'and biases hold the rest.', '',
        '| Model | Ternary | All | What else holds weights by default, and '
        'the largest of it |', '|---|---|---|---|'
    ]
    for record in records:
        if record['share'] >= REACH:
            continue
        words = []
        for reason, layers in record['left'].items():
            share = layers['weights'] / record['parameters']
            if share >= MENTIONED:
                words.append(f'{share:.1%} {WORDS.get(reason, reason)} '
                             f'(`{layers["largest"]}`)')
        lines.append(f'| {_name(record)} | {record["share"]:.1%} | '
                     f'{record["share_all"]:.1%} | {", ".join(words)} |')
    return lines


def _reach(records: List[Dict[str, Any]], share: str) -> str:
    count = sum(record[share] >= REACH for record in records)
    return f'{count} of {len(records)} ({count / max(len(records), 1):.1%})'


def _name(record: Dict[str, Any]) -> str:
    """Folder, and the kind of model where it is another: a config's whole
    name makes the table wider than a page."""
    folder, file = record['config'].split('/')[-2:]
    kind = re.split(r'_[a-z]+\d|\.py$', file)[0]
    same = kind.replace('-', '_') == folder.replace('-', '_')
    return folder if same else f'{folder}: {kind}'


def _left(record: Dict[str, Any]) -> str:
    return ', '.join(f'{layers["layers"]} {reason}'
                     for reason, layers in record['left'].items())


def _failures(title: str, records: List[Dict[str, Any]]) -> List[str]:
    lines = ['', f'## {title}', '']
    if not records:
        return lines + ['None.']
    reasons: Dict[str, List[str]] = {}
    for record in records:
        reason = record.get('reason', 'no reason given')
        reasons.setdefault(reason, []).append(record['config'])
    return lines + [
        f'- {", ".join(configs)}: {reason}'
        for reason, configs in reasons.items()
    ]
