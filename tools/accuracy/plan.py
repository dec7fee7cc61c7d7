"""What the accuracy benchmark compares: suites, methods, ablations."""
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

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


@dataclass(frozen=True)
class Method:
    """Ternary settings and what the schedule does with them.

    Attributes:
        ternary (dict, optional): Keys of ``ternary=dict(...)`` in the model
            config; None trains on in float.
        schedule (dict): Arguments of ``TernaryScheduleHook``.
        regularizer (dict, optional): Arguments of
            ``TernaryRegularizerHook``.
        options (dict): Further config overrides.
        distillation (float, optional): Weight of ``TernaryDistillationHook``;
            the teacher is the shared float model.
        hooks (list[dict]): Further hooks.
    """
    ternary: Optional[dict]
    schedule: dict
    regularizer: Optional[dict] = None
    options: Optional[dict] = None
    distillation: Optional[float] = None
    hooks: Sequence[dict] = ()


DETECTORS = {'retinanet': 'RetinaNet', 'faster_rcnn': 'FasterRCNN'}

SUITES = {
    'bccd-lite':
    Suite('configs/{}_r18-lite_bccd.py', {}),
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
    'real': Budget(24, 36),
    'smoke': Budget(1, 1),
}

METHODS = {
    'fp':
    Method(None, {}),
    'twn':
    Method(
        dict(threshold='mean', scale='lsq', floor=1.0),
        dict(temperature=(0.0, 0.0))),
    'ttq':
    Method(
        dict(threshold='max', scale='ttq', floor=1.0),
        dict(temperature=(0.0, 0.0))),
    'soft':
    Method(
        dict(threshold='mean', scale='lsq', forward='soft'),
        dict(temperature=(1.0, 20.0))),
    'mmtern':
    Method({}, {}),
}

# One change to mmtern each.
ABLATIONS = {
    'plain-ste':
    Method({}, dict(temperature=(0.0, 0.0))),
    'constant-T4':
    Method({}, dict(temperature=(4.0, 4.0))),
    'T0-8':
    Method({}, dict(temperature=(0.0, 8.0))),
    'floor0':
    Method(dict(floor=0.0), {}),
    'floor0.5':
    Method(dict(floor=0.5), {}),
    'unnormalized':
    Method(dict(normalize=False), {}),
    'mean-threshold':
    Method(dict(threshold='mean'), {}),
    'scale-lsq':
    Method(dict(scale='lsq'), {}),
    'scale-learned':
    Method(dict(scale='learned'), {}),
    'approach-weak':
    Method({}, dict(begin=2), dict(loss_weight=1e-4, end=2)),
    'approach-strong':
    Method({}, dict(begin=2), dict(loss_weight=1e-3, end=2)),
    'pull-to-the-end':
    Method({}, {}, dict(loss_weight=1e-4)),
    'pull-late':
    Method({}, {}, dict(loss_weight=1e-4, begin=6)),
    'staged':
    Method({}, dict(begin=dict(backbone=0, neck=1, bbox_head=2))),
    'weight-decay':
    Method({}, {}, None, {'optim_wrapper.optimizer.weight_decay': 0.01}),
    'frozen-bn':
    Method({}, {}, None, {'model.backbone.norm_eval': True}),
    'lr1e-3':
    Method({}, {}, None, {'optim_wrapper.optimizer.lr': 1e-3}),
    'distillation':
    Method({}, {}, distillation=4.0),
    'averaging':
    Method({}, {}, hooks=[dict(type='EMAHook', momentum=0.01)]),
}


@dataclass(frozen=True)
class Run:
    """One line of the results."""
    suite: str
    detector: str
    method: str
    seed: int
    budget: str = 'short'
    scope: str = 'all'
    min_sparsity: float = 0.0
    ablation: str = ''
    amp: bool = False

    @property
    def settings(self) -> Method:
        return (ABLATIONS[self.ablation]
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
        if self.amp:
            parts.append('amp')
        return '_'.join(parts + [f'seed{self.seed}'])


def plan(suite: str, detectors: List[str], methods: List[str],
         seeds: List[int], budget: str, scope: str, min_sparsity: float,
         ablations: List[str], amp: bool) -> List[Run]:
    """All runs asked for, seed by seed, so that an interrupted benchmark
    leaves whole comparisons."""
    runs = []
    for seed in seeds:
        for detector in detectors:
            common = dict(
                suite=suite,
                detector=detector,
                seed=seed,
                budget=budget,
                amp=amp)
            for method in methods:
                ternary = METHODS[method].ternary is not None
                runs.append(
                    Run(method=method,
                        scope=scope if ternary else 'all',
                        min_sparsity=min_sparsity if ternary else 0.0,
                        **common))
            runs += [
                Run(method='mmtern',
                    scope=scope,
                    min_sparsity=min_sparsity,
                    ablation=ablation,
                    **common) for ablation in ablations
            ]
    return runs
