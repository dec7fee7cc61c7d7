"""A small packed file, and files that lie with a valid checksum."""
import hashlib
import json

import safetensors.torch
import torch
from mmengine.config import Config
from torch import nn

from mmtern import convert
from mmtern.files import save_packed
from tests.toy import ToyModel

META = dict(classes=('cat', 'dog'), palette=[(1, 2, 3), (4, 5, 6)])
CONFIG = Config(
    dict(
        model=dict(
            type='RetinaNet', size=(4, 8), init_cfg=dict(checkpoint='a.pth')),
        load_from='b.pth',
        names=['x', None, -1.5]))


def toy_model(seed: int = 0, **kwargs) -> nn.Module:
    """Toy model with random weights everywhere, in eval."""
    torch.manual_seed(seed)
    model = ToyModel(**kwargs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        model.backbone[1].running_mean.normal_()
    return model.eval()


def save_toy(path, model=None, **kwargs):
    model = toy_model() if model is None else model
    table = save_packed(model, CONFIG, str(path), META, **kwargs)
    return model, table


def expected_state(model: nn.Module) -> dict:
    """State dict with ternary values in place of latent weights."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if hasattr(module, 'ternary_weight'):
            state[f'{name}.weight'] = module.ternary_weight.detach()
    return state


def taken_apart(path) -> tuple:
    """Metadata and tensors of a packed file, by safetensors alone."""
    data = path.read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], 'little')])
    return (json.loads(header['__metadata__']['mmtern']),
            safetensors.torch.load(data))


def rewrite(source, target, change):
    """Change metadata and tensors of a file, with a checksum that fits."""
    metadata, tensors = taken_apart(source)
    change(metadata, tensors)
    metadata['checksum'] = blank = '0' * 64
    data = safetensors.torch.save(tensors, dict(mmtern=json.dumps(metadata)))
    digest = hashlib.sha256(data).hexdigest()
    target.write_bytes(data.replace(blank.encode(), digest.encode(), 1))
    return str(target)


def pair_with_shared_weight() -> nn.Module:
    """Two names for one ternary conv, as in heads shared between levels."""
    torch.manual_seed(0)
    shared = nn.Conv2d(4, 6, 3)
    model = nn.Module()
    model.first = nn.Sequential(shared)
    model.second = nn.Sequential(shared)
    model.third = nn.Linear(3, 2)
    from mmtern import Scope
    convert(model, Scope(stem=True))
    return model.eval()
