"""``torch.compile`` leaves results as they are.

What it does with the layers (torch 2.13): the ternary weight is Python state
kept from step to step, so each layer breaks the graph, two of them into some
30 frames, and another grad mode or weight shape compiles those anew; beyond
torch's limit of 8 a frame runs eagerly. Correct, but ternary weights gain
nothing from it.
"""
import copy
import os
import shutil

import pytest
import torch

from mmtern import ternary_layers
from .toy import ToyData
from .toy_types import FrozenNormToy

pytestmark = pytest.mark.slow
COMPILER = shutil.which(os.environ.get('CXX', 'g++'))


def steps(model, call):
    """Losses of six training steps under a rising temperature, and the
    outputs of one evaluation."""
    data = torch.utils.data.default_collate(list(ToyData()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(6):
        for layer in ternary_layers(model).values():
            layer.quantizer.temperature = 4.0 * step / 6
        optimizer.zero_grad()
        loss = call(**data, mode='loss')['loss_toy']
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    model.eval()
    with torch.no_grad():
        return torch.stack(losses), call(data['inputs'])


@pytest.mark.parametrize('backend', [
    'eager',
    pytest.param(
        'inductor',
        marks=pytest.mark.skipif(not COMPILER, reason='no C++ compiler'))
])
def test_compiled_model_trains_alike(backend):
    """Inductor takes a minute of a core to itself."""
    torch.manual_seed(0)
    plain = FrozenNormToy().train()
    twin = copy.deepcopy(plain)
    expected = *steps(plain, plain), plain.state_dict()
    torch._dynamo.reset()
    got = *steps(twin, torch.compile(twin, backend=backend)), twin.state_dict()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
