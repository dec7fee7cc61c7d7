"""What the accuracy benchmark runs: suites, budgets, one run for each line."""
from dataclasses import dataclass, replace
from typing import Any, Dict, List

from .methods import METHODS, Method, ablation

# Key of ``ternary=dict(...)`` for a share of zeros, by what must hold it.
ZEROS_PER = {'filter': 'min_sparsity', 'model': 'model_sparsity'}

# Backbone only, or everything but stem and predictions.
SCOPES: Dict[str, dict] = {'all': {}, 'backbone': dict(include=[r'^backbone'])}


@dataclass(frozen=True)
class Suite:
    """One data set at one size.

    Attributes:
        config (str): Float config, with a slot for the detector.
        options (dict): Config overrides of every run.
    """
    config: str
    options: Dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """Epochs of the shared float model and of what every method adds."""
    float_epochs: int
    extra_epochs: int


DETECTORS = {'retinanet': 'RetinaNet', 'faster_rcnn': 'FasterRCNN'}

SUITES = {
    'bccd-lite':
    Suite('configs/{}_r18-lite_bccd.py', {}),
    # R50 at full size; wants a GPU.
    'bccd-r50':
    Suite('configs/{}_r50_bccd.py', {}),
    'shapes-lite':
    Suite('configs/{}_r18-lite_shapes.py', {}),
    # Two images, one iteration: the benchmark's own test.
    'smoke':
    Suite(
        'configs/{}_r18-lite_shapes.py', {
            'train_dataloader.batch_size': 2,
            'train_dataloader.dataset.indices': 2,
            'val_dataloader.dataset.indices': 2,
            'test_dataloader.dataset.indices': 2,
        }),
}

BUDGETS = {
    'short': Budget(8, 8),
    # What the shipped configs train.
    'recipe': Budget(24, 12),
    'real': Budget(24, 36),
    'smoke': Budget(1, 1),
}


@dataclass(frozen=True)
class Run:
    """One line of the results.

    Attributes:
        zeros_per (str): What holds a share of ``min_sparsity`` zeros, each
            'filter' or the 'model'.
        lr (float): Learning rate of the extra epochs, of every method; the
            float model has its own.
    """
    suite: str
    detector: str = 'retinanet'
    method: str = 'mmtern'
    seed: int = 0
    budget: str = 'short'
    scope: str = 'all'
    min_sparsity: float = 0.0
    ablation: str = ''
    amp: bool = False
    lr: float = 3e-4
    zeros_per: str = 'filter'

    @property
    def settings(self) -> Method:
        return (ablation(self.ablation)
                if self.ablation else METHODS[self.method])

    @property
    def name(self) -> str:
        """Folder name of the run."""
        parts = [
            self.detector, self.ablation or self.method, self.budget,
            self.scope
        ]
        if self.min_sparsity:
            parts.append(f'zeros{self.min_sparsity:g}')
        if self.zeros_per != 'filter':
            parts.append(f'per-{self.zeros_per}')
        if self.amp:
            parts.append('amp')
        parts.append(f'lr{self.lr:g}')
        return '_'.join(parts + [f'seed{self.seed}'])


def comparable(run: Run) -> Run:
    """The run without what does not concern its method: a float one has
    neither scope nor zeros."""
    if run.settings.ternary is None:
        return replace(run, scope='all', min_sparsity=0.0, zeros_per='filter')
    return run


def plan(base: Run, detectors: List[str], methods: List[str],
         ablations: List[str], seeds: List[int]) -> List[Run]:
    """All runs asked for, seed by seed, so that an interrupted benchmark
    leaves whole comparisons.

    Args:
        base (Run): What all of them share.
    """
    runs = []
    for seed in seeds:
        for detector in detectors:
            here = replace(base, seed=seed, detector=detector)
            for method in methods:
                runs.append(comparable(replace(here, method=method)))
            runs += [replace(here, ablation=name) for name in ablations]
    return runs
