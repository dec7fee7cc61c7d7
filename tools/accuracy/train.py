"""One run of the accuracy benchmark: config, training, test, result
line."""
import hashlib
import json
import os.path as osp
import subprocess
import time
from dataclasses import asdict, replace
from typing import Any, Dict, List, Optional

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner, find_latest_checkpoint

import mmtern
from mmtern import TernaryScheduleHook
from mmtern.analysis.measure import summarize
from mmtern.convert import ternary_from_config
from mmtern.engine.cli import use_amp
from .methods import Method
from .plan import DETECTORS, OPTIMIZERS, SCOPES, SUITES, ZEROS_PER, Run

# Iterations whose mean stands for the detector's loss at their end.
LOSS_WINDOW = 100
REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


def base_config(run: Run, work_dir: str, epochs: int) -> Config:
    """Float config of the run's detector for ``epochs`` epochs."""
    suite = SUITES[run.suite]
    path = osp.join(REPOSITORY, suite.config.format(run.detector))
    cfg = Config.fromfile(path)
    cfg.work_dir = work_dir
    cfg.randomness = dict(seed=run.seed)
    cfg.train_cfg.max_epochs = epochs
    # Test is touched once, by the last epoch's model.
    cfg.train_cfg.val_interval = epochs
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1)
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
        loader.num_workers = 0
        loader.persistent_workers = False
    # Of one name, runs of a process would all write to the first one's record.
    cfg.visualizer.pop('name', None)
    cosine = cfg.param_scheduler[-1]
    cosine.update(end=epochs, T_max=epochs)
    cfg.merge_from_dict(suite.options)
    if run.amp:
        use_amp(cfg)
    return cfg


def ternary_config(run: Run, work_dir: str, float_checkpoint: str) -> Config:
    """Config of a method: the float model's checkpoint, the extra budget."""
    method = run.settings
    epochs = run.epochs.extra_epochs
    cfg = base_config(run, work_dir, epochs)
    cfg.load_from = float_checkpoint
    cfg.optim_wrapper.optimizer = dict(OPTIMIZERS[run.optimizer], lr=run.lr)
    cfg.param_scheduler[0].update(end=SUITES[run.suite].warm_up)
    switch = _approach_epochs(method, epochs)
    if switch:
        # The first validation is then that of the switch to ternary weights.
        cfg.train_cfg.val_interval = switch
    if method.options:
        cfg.merge_from_dict(method.options)
    ternary = _ternary_keys(run)
    if ternary is None:
        return cfg
    cfg.model.update(
        type='TernDetector', wrapped=DETECTORS[run.detector], ternary=ternary)
    cfg.custom_hooks = [
        dict(type='TernaryScheduleHook', **method.schedule),
        dict(type='TernaryStatisticsHook', interval=10),
    ]
    if method.regularizer:
        cfg.custom_hooks.append(
            dict(type='TernaryRegularizerHook', **method.regularizer))
    if method.batch_norm:
        cfg.custom_hooks.append(
            dict(type='TernaryBatchNormHook', num_batches=method.batch_norm))
    if method.distillation:
        cfg.custom_hooks.append(
            dict(
                type='TernaryDistillationHook',
                loss_weight=method.distillation,
                modules=method.modules))
    cfg.custom_hooks += method.hooks
    return cfg


def _ternary_keys(run: Run) -> Optional[dict]:
    """Keys of ``ternary=dict(...)``; None for a float run."""
    if run.settings.ternary is None:
        return None
    ternary = dict(run.settings.ternary, **SCOPES[run.scope])
    if run.min_sparsity:
        ternary[ZEROS_PER[run.zeros_per]] = run.min_sparsity
    return ternary


def _approach_epochs(method: Method, epochs: int) -> int:
    """Length of the approach phase that all layers share, of ``epochs`` in
    all; 0 where it does not end with an epoch."""
    if method.ternary is None:
        return 0
    begin = TernaryScheduleHook(**method.schedule).begin
    if isinstance(begin, float):
        begin *= epochs
    return int(begin) if not isinstance(begin, dict) and begin % 1 == 0 else 0


def _train(cfg: Config) -> Runner:
    """Train, going on where an earlier call stopped."""
    if find_latest_checkpoint(cfg.work_dir):
        cfg.resume, cfg.load_from = True, None
    runner = _runner(cfg)
    runner.train()
    return runner


def _tested(cfg: Config) -> Runner:
    """A runner with the last checkpoint, as a user tests it. That is not the
    model in memory: of an averaged one, mmengine forgets the average."""
    cfg.resume, cfg.load_from = False, find_latest_checkpoint(cfg.work_dir)
    return _runner(cfg)


def _runner(cfg: Config) -> Runner:
    runner = Runner.from_cfg(cfg)
    if not hasattr(runner.model, 'roi_head'):
        # Convolutions in bfloat16 take 12 % less time so on a CPU. But mmcv's
        # RoIAlign there takes any features for contiguous ones.
        runner.model.to(memory_format=torch.channels_last)
    return runner


def train_float(run: Run, folder: str) -> str:
    """Train the shared float model unless that is done; its checkpoint. Where
    all begin from a detector trained elsewhere, that one's."""
    epochs = run.epochs.float_epochs
    if not epochs:
        return base_config(run, folder, epochs).load_from
    if SUITES[run.suite].one_start:
        run = replace(run, seed=0)
    lender = run.epochs.backbone_of
    name = f'{run.detector}_float{epochs}'
    if lender:
        name += f'_backbone-of-{lender}'
    if run.amp:
        name += '_amp'
    work_dir = osp.join(folder, f'{name}_seed{run.seed}')
    checkpoint = osp.join(work_dir, f'epoch_{epochs}.pth')
    if not osp.isfile(checkpoint):
        cfg = base_config(run, work_dir, epochs)
        if lender:
            cfg.model.backbone.init_cfg = dict(
                type='Pretrained',
                prefix='backbone.',
                checkpoint=train_float(
                    replace(run, detector=lender, budget='short'), folder))
        _train(cfg)
    return checkpoint


def fingerprint(checkpoint: str) -> str:
    """Tells one shared float model from that of another machine, which is
    another sample of what its seed stands for."""
    with open(checkpoint, 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()[:8]


def measure(run: Run, folder: str) -> Dict[str, Any]:
    """Train and test one run, resuming what an earlier call left.

    Returns:
        dict: The result line; AP in percent, ``seconds`` of this method's
        own training and test.
    """
    checkpoint = train_float(run, folder)
    # A method whose settings have changed does not find its old runs.
    settings = json.dumps(settings_of(run), sort_keys=True).encode()
    digest = hashlib.sha256(settings).hexdigest()[:8]
    work_dir = osp.join(folder, f'{run.name}_{digest}')
    cfg = ternary_config(run, work_dir, checkpoint)
    started = time.time()
    history = _train(cfg).message_hub
    runner = _tested(cfg)
    validation = runner.val()
    result = runner.test()
    line = dict(
        asdict(run),
        **{
            key: _percent(result, name)
            for key, name in dict(AP='mAP', AP50='mAP_50',
                                  AP75='mAP_75').items()
        },
        val_AP=_percent(validation, 'mAP'),
        seconds=round(time.time() - started),
        settings=settings_of(run),
        **asdict(run.epochs),
        float_model=fingerprint(checkpoint),
        device=_device(),
        commit=_commit(),
        mmtern=mmtern.__version__,
        torch=torch.__version__)
    losses = history.get_scalar('train/loss').data[0]
    for name, done in dict(middle_loss=0.5, end_loss=1.0).items():
        stop = round(len(losses) * done)
        # The detector's own, so that methods can be compared.
        own = losses[:stop] - _ternary_loss(history, len(losses))[:stop]
        line[name] = round(float(own[-LOSS_WINDOW:].mean()), 4)
    switch = _approach_epochs(run.settings, run.epochs.extra_epochs)
    if switch:
        found = _validations(history)
        # A model without detections leaves no entry; early ones are such.
        missing = run.epochs.extra_epochs // switch - len(found)
        at_switch = 0.0 if missing else float(found[0])
        line['switch_val_AP'] = round(100 * at_switch, 2)
    summary = summarize(runner.model)
    line.update({key: round(value, 4) for key, value in summary.items()})
    return line


def _validations(history: MessageHub) -> np.ndarray:
    """AP of the validations that found anything."""
    name = 'val/coco/bbox_mAP'
    if name not in history.log_scalars:
        return np.zeros(0)
    return history.log_scalars[name].data[0]


def _ternary_loss(history: MessageHub, count: int) -> np.ndarray:
    """What mmtern's hooks added to the loss in each of ``count``
    iterations."""
    scalars = history.log_scalars
    added = np.zeros(count)
    for name in ('ternary', 'distillation'):
        if f'train/loss_{name}' in scalars:
            added += scalars[f'train/loss_{name}'].data[0]
    return added


def settings_of(run: Run) -> dict:
    """Return the run's method with the values that its defaults had."""
    settings = asdict(run.settings)
    ternary = _ternary_keys(run)
    if ternary is not None:
        scope, how = ternary_from_config(ternary)
        settings['ternary'] = dict(asdict(scope), **asdict(how))
        schedule = TernaryScheduleHook(**run.settings.schedule)
        settings['schedule'] = {
            name: getattr(schedule, name)
            for name in ('begin', 'approach', 'temperature')
        }
    return settings


def _percent(result: Dict[str, float], name: str) -> float:
    # The metric returns nothing at all for a model without detections.
    return round(100 * result.get(f'coco/bbox_{name}', 0.0), 2)


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU, {torch.get_num_threads()} threads'


def _commit() -> str:
    command: List[str] = ['git', 'describe', '--always', '--dirty']
    out = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True)
    return out.stdout.strip()
