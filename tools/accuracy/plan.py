"""What the accuracy benchmark runs: suites, budgets, one run for each line."""
import os.path as osp
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Sequence

from .methods import METHODS, Method, ablation

# Key of ``ternary=dict(...)`` for a share of zeros, by what must hold it.
ZEROS_PER = {'filter': 'min_sparsity', 'model': 'model_sparsity'}

# Backbone only, or everything but stem and predictions.
SCOPES: Dict[str, dict] = {'all': {}, 'backbone': dict(include=[r'^backbone'])}


@dataclass(frozen=True)
class Budget:
    """Epochs of the shared float model and of what every method adds.

    Attributes:
        backbone_of (str): Detector whose float model of the short budget
            lends its backbone, so that few epochs bring the float model near
            its plateau.
    """
    float_epochs: int
    extra_epochs: int
    backbone_of: str = ''


BUDGETS = {
    'short': Budget(8, 8),
    # What the shipped configs train.
    'recipe': Budget(24, 12),
    'real': Budget(24, 36),
    'smoke': Budget(1, 2),
}

# From a detector that is trained already: no shared float epochs.
TRAINED_BUDGETS = {
    'short': Budget(0, 4),
    'medium': Budget(0, 12),
    'long': Budget(0, 36),
    'smoke': Budget(0, 2),
}

# From a trained backbone.
BACKBONE_BUDGETS = {
    'short': Budget(12, 4),
    'medium': Budget(12, 12),
    'borrowed': Budget(4, 4, backbone_of='retinanet'),
    'smoke': Budget(1, 2),
}

# From the backbone and the neck of a trained detector.
NECK_BUDGETS = {
    'short': Budget(4, 4),
    'medium': Budget(4, 12),
    'smoke': Budget(1, 2),
}

# Of transformers; an epoch of the drawn shapes has 20 iterations.
TRANSFORMER_BUDGETS = {
    'short': Budget(5, 10),
    'medium': Budget(20, 10),
    'smoke': Budget(1, 2),
}

BUDGET_NAMES = list(
    dict.fromkeys(
        [*BUDGETS, *TRAINED_BUDGETS, *BACKBONE_BUDGETS, *TRANSFORMER_BUDGETS]))

DETECTORS = {
    'retinanet': 'RetinaNet',
    'faster_rcnn': 'FasterRCNN',
    'yolox': 'YOLOX',
    'retinanet_swin': 'RetinaNet',
    'detr_r18': 'DETR',
    'deformable_detr_r18': 'DeformableDETR'
}
TITLES = dict(
    DETECTORS,
    faster_rcnn='Faster R-CNN',
    yolox='YOLOX-Nano',
    retinanet_swin='RetinaNet on Swin',
    detr_r18='DETR-R18',
    deformable_detr_r18='Deformable DETR-R18')
R_CNN_AND_RETINANET = ('retinanet', 'faster_rcnn')


@dataclass(frozen=True)
class Suite:
    """One data set at one size.

    Attributes:
        config (str): Float config, with a slot for the detector. Without
            shared float epochs, its ``load_from`` is where all begin.
        options (dict): Config overrides of every run.
        detectors (Sequence[str]): Keys of ``DETECTORS``.
        budgets (dict): Epochs by the budget's name.
        optimizer (str): Key of ``OPTIMIZERS`` that runs have by default.
        lr (float): Learning rate that extra epochs have by default.
        warm_up (int): Iterations over which that rate grows at first.
        one_start (bool): Whether the runs of all seeds begin from the float
            model of seed 0, where to train another one takes too long.
        needs (dict): Files without which nothing can run, and where each
            comes from.
    """
    config: str
    options: Dict[str, Any] = field(default_factory=dict)
    detectors: Sequence[str] = R_CNN_AND_RETINANET
    budgets: Dict[str, Budget] = field(default_factory=lambda: BUDGETS)
    optimizer: str = 'adamw'
    lr: float = 1e-3
    warm_up: int = 20
    one_start: bool = False
    needs: Dict[str, str] = field(default_factory=dict)

    def missing(self) -> List[str]:
        """What of ``needs`` does not exist, a sentence each."""
        return [
            f'{path} does not exist: {source}'
            for path, source in self.needs.items() if not osp.isfile(path)
        ]


# Of the extra epochs. No decay: shrinking latent weights does nothing to a
# direction.
OPTIMIZERS = {
    'adamw': dict(type='AdamW', weight_decay=0.0),
    'sgd': dict(type='SGD', momentum=0.9, nesterov=True, weight_decay=0.0),
}

VOC07 = {
    'data/voc07/train.json':
    "tools/split_voc07.py makes it of VOC2007's official test set"
}
YOLOX_NANO = {
    'data/weights/yolox_nano_voc20.pth':
    "Megvii's YOLOX-Nano of COCO under mmdet's names, its class layers cut "
    'to the 20 classes of VOC'
}

SUITES = {
    'bccd-lite':
    Suite('configs/{}_r18-lite_bccd.py'),
    # R50 at full size; wants a GPU.
    'bccd-r50':
    Suite('configs/{}_r50_bccd.py'),
    'shapes-lite':
    Suite('configs/{}_r18-lite_shapes.py'),
    # Attention, deformable attention and windows of it.
    'shapes-transformer':
    Suite(
        'configs/{}-lite_shapes.py',
        detectors=('retinanet_swin', 'detr_r18', 'deformable_detr_r18'),
        budgets=TRANSFORMER_BUDGETS,
        lr=5e-4),
    # A strong detector with few weights to spare.
    'voc-yolox':
    Suite(
        'configs/{}_nano_voc07.py',
        detectors=('yolox', ),
        budgets=TRAINED_BUDGETS,
        optimizer='sgd',
        lr=4e-3,
        warm_up=50,
        needs={
            **VOC07,
            **YOLOX_NANO
        }),
    # RetinaNet and Faster R-CNN on what that detector has learnt of COCO.
    'voc-csp':
    Suite(
        'configs/{}_csp-nano_voc07.py',
        budgets=NECK_BUDGETS,
        warm_up=50,
        one_start=True,
        needs={
            **VOC07,
            **YOLOX_NANO
        }),
    # Small detectors on backbones trained elsewhere.
    'voc-lite':
    Suite(
        'configs/{}_r50-half_voc07.py',
        budgets=BACKBONE_BUDGETS,
        one_start=True,
        needs={
            **VOC07, 'data/weights/resnet50_half.pth':
            "the backbone of Yahoo's open_nsfw under mmdet's names"
        }),
    'voc-mobilenet':
    Suite(
        'configs/{}_mobilenet-v2_voc07.py',
        detectors=('retinanet', ),
        budgets=BACKBONE_BUDGETS,
        one_start=True,
        needs={
            **VOC07, 'data/weights/mobilenet_v2.pth':
            "torchvision's ImageNet weights under mmdet's names"
        }),
    # Two images, two iterations: the benchmark's own test.
    'smoke':
    Suite(
        'configs/{}_r18-lite_shapes.py', {
            'train_dataloader.batch_size': 2,
            'train_dataloader.dataset.indices': 2,
            'val_dataloader.dataset.indices': 2,
            'test_dataloader.dataset.indices': 2,
        }),
}


@dataclass(frozen=True)
class Run:
    """One line of the results.

    Attributes:
        zeros_per (str): What holds a share of ``min_sparsity`` zeros, each
            'filter' or the 'model'.
        lr (float): Learning rate of the extra epochs, of every method; the
            float model has its own.
        optimizer (str): Of the extra epochs, a key of ``OPTIMIZERS``.
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
    optimizer: str = 'adamw'

    @property
    def settings(self) -> Method:
        return (ablation(self.ablation)
                if self.ablation else METHODS[self.method])

    @property
    def epochs(self) -> Budget:
        return SUITES[self.suite].budgets[self.budget]

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
        if self.optimizer != 'adamw':
            parts.append(self.optimizer)
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
