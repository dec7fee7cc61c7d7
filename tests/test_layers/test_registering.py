"""A user's own layer type goes ternary through the public table."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmtern import (Scope, TernaryWeight, convert, register_ternary,
                    ternary_layers)
from mmtern.layers import TWINS


class ScaledLinear(nn.Linear):
    """A layer of somebody's project."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.fixture
def twin():

    @register_ternary(ScaledLinear)
    class TernScaledLinear(TernaryWeight, ScaledLinear, nn.Linear):

        def forward(self, x):
            return 2 * F.linear(x, self.ternary_weight, self.bias)

    yield TernScaledLinear
    del TWINS[ScaledLinear]


def test_a_registered_type_is_converted_trained_and_keeps_its_keys(twin):
    model = nn.Sequential(ScaledLinear(12, 4))
    keys = list(model.state_dict())
    convert(model, Scope(include=['.']))
    layer = model[0]
    assert type(layer) is twin and list(ternary_layers(model)) == ['0']
    assert list(model.state_dict()) == keys
    x = torch.randn(3, 12)
    expected = 2 * F.linear(x, layer.ternary_weight, layer.bias)
    assert torch.equal(model(x), expected)
    model(x).sum().backward()
    assert layer.weight.grad is not None
    for row in layer.ternary_weight:
        assert len(row.abs().unique()) <= 2


def test_init_cfg_finds_twins_by_the_names_that_it_finds_their_layers_by():
    """mmengine compares ``layer='Conv2d'`` with the names of a class and of
    its bases."""

    def names(kind):
        return {kind.__name__, *[base.__name__ for base in kind.__bases__]}

    for float_type, twin in TWINS.items():
        public = {x for x in names(float_type) if not x.startswith('_')}
        assert public - {'Module', 'BaseModule'} <= names(twin), twin


def test_what_is_no_twin_is_refused():
    with pytest.raises(TypeError, match='TernaryWeight.*got ScaledLinear'):
        register_ternary(nn.Linear)(ScaledLinear)
