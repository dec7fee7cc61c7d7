"""The page's first sections: accuracy, pictures, sizes."""
import os.path as osp
import shlex
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ..analysis.evaluation import (IOU, SCORE, Findings, GroundTruth,
                                   read_ground_truth, run_detector)
from ..analysis.measure import average
from ..analysis.plan import TernaryPlan
from ..analysis.shipped_size import float_size, shipped_size
from ..engine.checkpoints import read_checkpoint
from ..engine.data import check_data
from ..files import TernaryFileError, provenance, read_packed
from ..files.sizes import megabytes
from . import accuracy, curves
from .detections import class_color, draw_pictures
from .histograms import Stages
from .sections import Section
from .work_dir import WorkDir


@dataclass(frozen=True)
class Tested:
    """The accuracy of the detectors on the test set.

    Attributes:
        tests: The images, None where they are not there.
        findings: Of the float detector, where there is one, then the ternary
            one.
        missing: Why something was not run.
    """
    tests: Optional[GroundTruth]
    findings: List[Findings]
    missing: List[str]

    def by_name(self, name: str) -> Optional[Findings]:
        """Return the findings of 'float' or 'ternary'."""
        return next((one for one in self.findings if one.name == name), None)


@dataclass(frozen=True)
class Size:
    """The name, bytes and description of a file that exists or could be
    written."""
    name: str
    size: int
    remark: str
    ternary: bool
    on_disk: bool = False


def test_detectors(run: WorkDir, twin: Optional[WorkDir], most: int) -> Tested:
    """Run both detectors on ``most`` images of the test set at most; 0 for
    none."""
    missing: List[str] = []
    detectors = []
    for name, source in (('float', twin), ('ternary', run)):
        if source and source.config and source.last_checkpoint:
            detectors.append((name, source.config, source.last_checkpoint))
        elif source:
            missing.append(f'The {name} run has no checkpoint.')
    if not most or not detectors or run.config is None:
        missing.append('No images were asked for.'
                       if not most else 'There is nothing to detect with.')
        return Tested(None, [], missing)
    try:
        check_data(run.config, 'test_dataloader')
        tests = read_ground_truth(run.config, most)
        findings = [run_detector(*one, tests) for one in detectors]
    except (OSError, ValueError) as error:
        # The data set lies elsewhere: the rest of the page still stands.
        missing.append(f'No images: {error}.')
        return Tested(None, [], missing)
    return Tested(tests, findings, missing)


def start_epochs(run: WorkDir) -> float:
    """Return the epochs of float training in the checkpoint that the run
    started from, or 0 where it does not state them."""
    if run.start_checkpoint is None:
        return 0
    meta = read_checkpoint(run.start_checkpoint)['meta']
    trained = provenance.of_checkpoint(meta)
    if trained is not None and trained.ternary:
        return 0
    return meta.get('epoch') or 0


def precision_curves(run: WorkDir,
                     twin: Optional[WorkDir]) -> Dict[str, curves.Curve]:
    """Return the validation AP over all epochs of each detector's training;
    the curve of a float twin that continues another float run begins with that
    run's."""
    found = {}
    for name, source in (('float', twin), ('ternary', run)):
        if source is None:
            continue
        before = start_epochs(source)
        _, steps, values = source.average_precision()
        steps = [before + step for step in steps]
        start = source.start_checkpoint
        if name == 'float' and before and start is not None:
            earlier = _run_of(start)
            if earlier is not None:
                _, old_steps, old_values = earlier.average_precision()
                steps, values = old_steps + steps, old_values + values
        found[name] = (steps, values)
    return found


def _run_of(checkpoint: str) -> Optional[WorkDir]:
    """Return the run whose work directory holds a checkpoint."""
    try:
        return WorkDir(osp.dirname(checkpoint) or '.')
    except ValueError:
        return None


def precision_section(run: WorkDir, twin: Optional[WorkDir],
                      tested: Tested) -> Section:
    """Return the section of AP over training, by class, over recall, and
    confusions."""
    section = Section('precision', 'Average precision', '')
    offset = start_epochs(run)
    found = precision_curves(run, twin)
    metric = run.average_precision()[0] or 'AP'
    words = ['Validation measures ternary weights from the first epoch on.']
    if offset:
        words.append(f'The ternary training started from {offset:g} epochs '
                     'of float training, which its curve continues.')
    figure = curves.precision_figure(found, metric, offset)
    section.add('ap', figure, None)
    if figure is None:
        # Too few points for a curve.
        rows = [(name, f'{step:g}', f'{value:.1f}')
                for name, curve in found.items()
                for step, value in zip(*curve)]
        if rows:
            section.data['validations'] = rows
        else:
            section.missing.append('No validation results were logged.')
    if twin is None:
        section.missing.append(
            'No float twin: name its work directory with --float.')
    tests = tested.tests
    if tests is not None:
        part = (f'all {tests.total}' if len(tests.paths) == tests.total else
                f'{len(tests.paths)} evenly spaced ones of {tests.total}')
        words.append('Classes, recall and confusions are of the test set, '
                     f'{part} images. {accuracy.CONFUSION_TEXT}')
        section.figures.update({
            'classes':
            accuracy.class_figure(tested.findings, tests.classes),
            'recall':
            accuracy.recall_figure(tested.findings),
            'confusion':
            accuracy.confusion_figure(tested.findings, tests.classes)
        })
    section.text = ' '.join(words)
    return section


def detection_section(tested: Tested, count: int) -> Section:
    """Return the section of pictures with ground truth beside the
    detections."""
    more = (', those where the two detectors differ most'
            if len(tested.findings) > 1 else ', those with most objects')
    section = Section(
        'detections', 'Detections',
        f'Test images{more}; detections scored {SCORE} or more. Dashed: no '
        f'object of that class overlaps by {IOU}. White, dotted: missed.')
    section.missing += tested.missing
    if tested.tests is None or not count:
        return section
    try:
        section.data['pictures'] = draw_pictures(tested.tests, tested.findings,
                                                 count)
    except ValueError as error:
        section.missing.append(f'No images: {error}.')
        return section
    section.data['classes'] = [
        (name, class_color(index))
        for index, name in enumerate(tested.tests.classes)
    ]
    return section


def sizes_of(run: WorkDir, plan: TernaryPlan) -> List[Size]:
    """Return the sizes of the float checkpoint's tensors and of the files to
    ship."""
    sizes = [
        Size('float32 tensors', float_size(plan.model),
             'a checkpoint without optimizer state', False)
    ]
    if run.last_checkpoint:
        state = read_checkpoint(run.last_checkpoint)['state_dict']
        plan.model.load_state_dict(state, strict=False)
        size = shipped_size(plan.model, run.config)
        if size is not None:
            sizes.append(
                Size('packed file', size, 'tools/export.py, default options; '
                     'equal bit by bit', True))
    for pattern in ('*.safetensors', '*.onnx'):
        sizes += [
            Size(
                osp.basename(path), osp.getsize(path), 'on disk',
                _holds_ternary(path), True) for path in run.glob(pattern)
        ]
    if run.last_checkpoint:
        path = run.last_checkpoint
        sizes.append(
            Size(
                osp.basename(path), osp.getsize(path),
                'on disk, optimizer state and log included', False, True))
    return sizes


def _holds_ternary(path: str) -> bool:
    """Return whether a file is one of ours that holds ternary weights in few
    bits; of an ONNX file only the package onnx can tell."""
    if path.endswith('.safetensors'):
        try:
            read_packed(path, trust_config=True)
        except TernaryFileError:
            return False
        return True
    try:
        import onnx
        from google.protobuf import message  # type: ignore[import-untyped]

        from ..deploy.metadata import description_of
    except ImportError:
        return False
    try:
        model = onnx.load(path, load_external_data=False)
    except message.DecodeError:
        return False
    facts = description_of({x.key: x.value for x in model.metadata_props})
    return facts.get('weights', 'float') != 'float'


def size_section(sizes: List[Size], tested: Tested) -> Section:
    """Return the section of file sizes: a row for each file with size, ratio
    and the time of an image in PyTorch."""
    section = Section(
        'sizes', 'Sizes',
        'Of what is shipped, against the float32 tensors. Times are medians '
        'of one image in PyTorch on the CPU here, file reading included: '
        'ternary weights make files smaller, not PyTorch faster.')
    rows = []
    for size in sizes:
        kind = 'ternary' if size.ternary else 'float'
        found = tested.by_name(kind)
        timed = not size.name.endswith(('.onnx', '.pth'))
        rows.append((size, f'{sizes[0].size / size.size:.1f}×',
                     f'{found.milliseconds:.0f}' if found and timed else '–'))
    section.data['sizes'] = rows
    return section


def tiles(run: WorkDir, twin: Optional[WorkDir], tested: Tested,
          stages: Stages, sizes: List[Size]) -> List[Tuple[str, str, str]]:
    """Return the page's first numbers: name, value, note."""
    found: List[Tuple[str, str, str]] = []
    values = {}
    for name, source in (('ternary', run), ('float', twin)):
        if source is None:
            continue
        before = start_epochs(source)
        _, steps, validated = source.average_precision()
        measured = tested.by_name(name)
        if measured is None and not validated:
            continue
        value = measured.accuracy.ap if measured else validated[-1]
        where = 'test' if measured else 'val'
        epochs = _epochs(source, steps)
        told = f'{before:g} + {epochs:g}' if before else f'{epochs:g}'
        values[name] = (value, before + epochs)
        found.append(
            (f'AP, {name}', f'{value:.1f}', f'{where}, {told} epochs'))
    if len(values) == 2:
        (ternary, after), (full, alone) = values['ternary'], values['float']
        fewer = after - alone
        note = 'at equal epochs' if not fewer else (
            f'float had {abs(fewer):g} epochs '
            f'{"fewer" if fewer > 0 else "more"}')
        found.append(('ternary over float', f'{ternary - full:+.1f}', note))
    shipped = [size for size in sizes if size.ternary]
    if shipped:
        best = shipped[0]
        found.append((best.name, megabytes(best.size),
                      f'{sizes[0].size / best.size:.1f}× smaller'))
    end = stages.get('at the end')
    if end:
        zeros = average(end.values())['zeros']
        found.append(('zeros', f'{zeros:.0%}', 'of the ternary weights'))
    if run.seconds:
        minutes = run.seconds / 60
        long = minutes > 90
        told = f'{minutes / 60:.1f} h' if long else f'{minutes:.1f} min'
        found.append(('training', told, 'steps of the ternary run'))
    measured = tested.by_name('ternary')
    if measured:
        found.append(('an image', f'{measured.milliseconds:.0f} ms',
                      'PyTorch, CPU, ternary'))
    return found


def _epochs(source: WorkDir, steps: List[float]) -> float:
    meta = {}
    if source.last_checkpoint:
        meta = read_checkpoint(source.last_checkpoint)['meta']
    return meta.get('epoch') or (steps[-1] if steps else 0)


def next_commands(run: WorkDir,
                  twin: Optional[WorkDir]) -> List[Tuple[str, str]]:
    """Return purposes and commands for the trained detector, and for its float
    twin or what it started from."""
    if not run.last_checkpoint or not run.config_file:
        return []
    packed = osp.join(run.path, f'{run.name}.safetensors')
    commands = [
        ('the file to ship', 'tools/export.py', run.config_file,
         run.last_checkpoint, packed),
        ('its AP', 'tools/test.py', run.config_file, packed),
    ]
    if twin is None and start_epochs(run):
        twin = _run_of(str(run.start_checkpoint))
    if twin is not None and twin.last_checkpoint and twin.config_file:
        commands.append(('which layers cost AP', 'tools/sensitivity.py',
                         twin.config_file, twin.last_checkpoint))
    return [(purpose, shlex.join(('python', *command)))
            for purpose, *command in commands]
