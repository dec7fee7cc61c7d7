"""One config of the zoo: its float model, then the ternary twin."""
import copy
import math
import re
import traceback
from collections import Counter, defaultdict
from typing import Any, Dict, Iterable, List, Set

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmtern import convert, freeze, ternary_layers
from mmtern.convert import ConversionReport
from mmtern.convert.report import family_of
from .inputs import predict_batch, seed, train_batch
from .shares import shares
from .watch import latent_weights_unused, three_values

# Pixels: most detectors do with the first, some need the second (SSD).
SIDES = (128, 320)
PROPOSALS = 50


def check(path: str, record: Dict[str, Any], save) -> None:
    """Fill ``record`` for the config file ``path``; ``save`` is called
    whenever a stage begins, so that a crash leaves its place."""
    init_default_scope('mmdet')
    # What a runner tells warm-ups in losses and preprocessors.
    MessageHub.get_current_instance().update_info_dict(
        dict(iter=0, epoch=0, max_iters=1000, max_epochs=1))
    try:
        model = offline(Config.fromfile(path)).model
    except Exception as error:  # a package that mmdet does not require
        record['reason'] = _sentence(error)
        return
    for side in SIDES:
        record.update(stage='float', side=side)
        save()
        try:
            trained, weights = _run_float(model, side, record)
            break
        except Exception as error:
            traceback.print_exc()
            record['reason'] = _sentence(error)
    else:
        return
    record.pop('reason', None)
    record['stage'] = 'ternary'
    save()
    try:
        _run_ternary(model, side, trained, weights, record)
        record['stage'] = 'done'
    except Exception as error:
        traceback.print_exc()
        record['reason'] = _sentence(error)


def count(path: str, record: Dict[str, Any]) -> None:
    """Renew what ``record`` says of the layers, without running any."""
    init_default_scope('mmdet')
    detector = MODELS.build(offline(Config.fromfile(path)).model)
    record.update(shares(detector))
    _count(convert(detector), record)


def offline(cfg: Config) -> Config:
    """The config without anything that would be downloaded, and with fewer
    proposals: 512 an image are slow on a CPU and prove nothing more."""
    cfg.load_from = None
    _strip(cfg.model)
    return cfg


def _strip(node: Any) -> None:
    for key, value in (list(node.items()) if isinstance(node, dict) else
                       list(enumerate(node)) if isinstance(node, list) else
                       ()):
        # Not by its type: PVT's init_cfg has none.
        if isinstance(value, dict) and 'checkpoint' in value:
            node[key] = None
        elif key in ('pretrained', 'teacher_ckpt', 'teacher_checkpoint'):
            node[key] = False if value is True else None
        elif key in ('num', 'max_per_img') and isinstance(value, int):
            node[key] = min(value, PROPOSALS)
        else:
            _strip(value)


def _run_float(model: ConfigDict, side: int, record: Dict[str, Any]) -> tuple:
    seed()
    detector = MODELS.build(copy.deepcopy(model))
    detector.init_weights()
    record.update(shares(detector))
    weights = copy.deepcopy(detector.state_dict())
    trained = _train(detector, model, side)
    _predict(detector, model, side)
    return trained, weights


def _run_ternary(model: ConfigDict, side: int, trained: Set[str],
                 weights: Dict[str, Tensor], record: Dict[str, Any]) -> None:
    detector = _ternary(model)
    own = detector.state_dict()
    if {
            k: v.shape
            for k, v in own.items()
    } != {
            k: v.shape
            for k, v in weights.items()
    }:
        raise ValueError('keys or shapes differ from the float model')
    detector.load_state_dict(weights, strict=True)
    _count(detector.conversion_report, record)
    with latent_weights_unused(detector):
        trained_now = _train(detector, model, side)
    if trained_now != trained:
        raise ValueError('other parameters get a gradient: '
                         f'{sorted(trained_now ^ trained)[:3]}')
    with latent_weights_unused(detector), three_values(detector) as ran:
        _predict(detector, model, side)
    record['idle'] = len(set(ternary_layers(detector)) - ran)
    _compare_with_plain(detector.state_dict(), model, side)


def _ternary(model: ConfigDict) -> nn.Module:
    # A teacher for distillation is in no state dict.
    seed()
    twin = copy.deepcopy(model)
    return MODELS.build(
        ConfigDict(twin, type='TernDetector', wrapped=twin.type))


@torch.no_grad()
def _compare_with_plain(state: Dict[str, Tensor], model: ConfigDict,
                        side: int) -> None:
    """Check what was computed and not what a layer says: mmdet's own layers,
    given the ternary weights as their parameters, must put out the same. A
    module that reads a latent weight past its layer, or a kernel that does,
    would differ."""
    # Built anew: mask heads hold tensors of their last loss, which no copy of
    # the detector could hold.
    detector, plain = _ternary(model), _ternary(model)
    for one in (detector, plain):
        one.load_state_dict(state)
    freeze(plain, inplace=True)
    ours, theirs = (outputs(x, model, side) for x in (detector, plain))
    if not any(x.numel() for x in ours):
        raise ValueError('predict and loss returned no number to compare')
    same = len(ours) == len(theirs) and all(
        torch.equal(a, b) for a, b in zip(ours, theirs))
    if not same:
        raise ValueError('computes something else than plain layers that '
                         'hold its ternary weights')


def outputs(detector: nn.Module, model: ConfigDict, side: int) -> List[Tensor]:
    """Tensors of the losses and the predictions in eval. With random weights
    a detector may find nothing; its losses depend on its weights all the
    same, but for kinds that need the training mode for them."""
    tensors = list(tensors_in(_predict(detector, model, side)))
    seed()
    try:
        batch = detector.data_preprocessor(train_batch(model, side), True)
        losses = detector(**batch, mode='loss')
    except Exception:
        # DINO makes the queries that its loss denoises in training only.
        return tensors
    return tensors + list(tensors_in(losses))


def tensors_in(node: Any) -> Iterable[Tensor]:
    """All tensors in nested results, in an order of their own."""
    if isinstance(node, Tensor):
        yield torch.nan_to_num(node)
    elif isinstance(node, BaseDataElement):
        yield from tensors_in(dict(node.items()))
    elif isinstance(node, dict):
        for key in sorted(node, key=str):
            yield from tensors_in(node[key])
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from tensors_in(value)


def _count(report: ConversionReport, record: Dict[str, Any]) -> None:
    left: Dict[str, Counter] = defaultdict(Counter)
    layers: Counter = Counter()
    for layer in report.left:
        layers[layer.reason] += 1
        left[str(layer.reason)][family_of(layer.name)] += layer.weights
    record.update(
        layers=len(report.ternary),
        ternary=sorted({family_of(layer.name)
                        for layer in report.ternary}),
        left={
            reason:
            dict(
                layers=layers[reason],
                names=sorted(families),
                weights=sum(families.values()),
                largest=max(families, key=families.__getitem__))
            for reason, families in sorted(left.items())
        })


def _train(detector: nn.Module, model: ConfigDict, side: int) -> Set[str]:
    """One step; the names of the parameters that got a gradient."""
    detector.train()
    seed()
    optimizer = torch.optim.SGD(
        [p for p in detector.parameters() if p.requires_grad], lr=1e-4)
    batch = detector.data_preprocessor(train_batch(model, side), True)
    losses = detector(**batch, mode='loss')
    loss, _ = detector.parse_losses(losses)
    if not math.isfinite(loss.item()):
        raise ValueError(f'the loss is {loss.item()}')
    loss.backward()
    trained = {
        name
        for name, parameter in detector.named_parameters()
        if parameter.grad is not None
    }
    torch.nn.utils.clip_grad_norm_(detector.parameters(), 10)
    optimizer.step()
    return trained


@torch.no_grad()
def _predict(detector: nn.Module, model: ConfigDict, side: int) -> Any:
    detector.eval()
    seed()
    results = detector.test_step(predict_batch(model, side))
    if not len(results):
        raise ValueError('predict returned nothing')
    return results


def _sentence(error: Exception) -> str:
    text = ' '.join(str(error).split())
    # No folders of this machine in the table.
    text = re.sub(r', the current sys.path .*|/\S*/site-packages/', '', text)
    return f'{type(error).__name__}: {text[:160]}'
