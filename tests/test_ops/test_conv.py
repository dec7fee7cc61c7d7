"""Layers that keep codes instead of a float weight for their backward."""
import copy
import gc

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from mmtern import TernConv2d, TernLinear
from mmtern.ops.conv import PART

LAYERS = {
    'conv': (lambda **k: TernConv2d(8, 6, 3, padding=1, **k), (2, 8, 9, 7)),
    'strided':
    (lambda **k: TernConv2d(8, 6, 3, 2, dilation=2, **k), (2, 8, 9, 7)),
    'grouped':
    (lambda **k: TernConv2d(8, 6, 1, groups=2, bias=False, **k), (2, 8, 9, 7)),
    'reflect':
    (lambda **k: TernConv2d(8, 6, 3, padding=1, padding_mode='reflect', **k),
     (2, 8, 9, 7)),
    'same':
    (lambda **k: TernConv2d(8, 6, 2, padding='same', **k), (2, 8, 9, 7)),
    'unbatched': (lambda **k: TernConv2d(8, 6, 3, **k), (8, 9, 7)),
    'empty': (lambda **k: TernConv2d(8, 6, 3, **k), (0, 8, 9, 7)),
    'linear': (lambda **k: TernLinear(8, 6, **k), (5, 8)),
    'tokens': (lambda **k: TernLinear(8, 6, bias=False, **k), (2, 5, 8)),
    'no rows': (lambda **k: TernLinear(8, 6, **k), (0, 8)),
}


def literal(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The layer as PyTorch writes it, over the float ternary weight."""
    plain = copy.copy(layer)
    plain.__class__ = layer.plain_type
    return functional_call(plain, dict(weight=layer.ternary_weight), x)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', LAYERS)
def test_output_and_gradients_are_pytorchs(name, dtype):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make().to(dtype)
    layer.quantizer.temperature = 2.0
    twin = copy.deepcopy(layer)
    twin.quantizer.temperature = 2.0
    inputs = [torch.randn(shape, dtype=dtype).requires_grad_() for _ in '12']
    inputs[1].data.copy_(inputs[0].data)
    outputs = layer(inputs[0]), literal(twin, inputs[1])
    torch.testing.assert_close(*outputs)
    for output in outputs:
        torch.manual_seed(1)
        output.backward(torch.randn_like(output))
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for mine, theirs in zip(layer.parameters(), twin.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize('name', ['conv', 'linear'])
def test_autocast_computes_as_pytorch(name):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    twin = copy.deepcopy(layer)
    inputs = [torch.randn(shape).requires_grad_() for _ in '12']
    inputs[1].data.copy_(inputs[0].data)
    with torch.autocast('cpu', torch.bfloat16):
        outputs = layer(inputs[0]), literal(twin, inputs[1])
    assert outputs[0].dtype == torch.bfloat16
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad)


@pytest.mark.parametrize(
    'layer, x', [
        (TernConv2d(61, 67, 3), torch.randn(1, 61, 3, 3)),
        (TernLinear(127, 131), torch.randn(1, 127)),
    ],
    ids=['conv', 'linear'])
def test_no_float_copy_waits_for_backward(layer, x):
    saved = []

    def save(tensor):
        saved.append(tensor)
        return tensor

    with saved_tensors_hooks(save, lambda tensor: tensor):
        output = layer(x.requires_grad_())
    assert saved  # the input and the codes, for one
    assert not any(t.is_floating_point() and t.shape == layer.weight.shape
                   for t in saved)
    output.sum().backward()
    assert layer.weight.grad is not None
    # Nor does the layer keep one: what has the weight's shape in floats is
    # the latent weight under other names, its gradient apart.
    output = layer(x)
    with torch.no_grad():
        layer.weight.fill_(7)
    layer.weight.grad = None
    assert not [
        t for t in gc.get_objects()
        if type(t) in (torch.Tensor, nn.Parameter) and t.shape ==
        layer.weight.shape and t.is_floating_point() and not (t == 7).all()
    ]


@pytest.mark.parametrize('bias', [True, False])
def test_large_linear_computes_in_parts(bias):
    torch.manual_seed(0)
    layer = TernLinear(2048, PART // 2048 + 3, bias=bias)
    twin = copy.deepcopy(layer)
    inputs = [torch.randn(2, 5, 2048).requires_grad_() for _ in '12']
    inputs[1].data.copy_(inputs[0].data)
    outputs = layer(inputs[0]), literal(twin, inputs[1])
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad)
    if bias:
        torch.testing.assert_close(layer.bias.grad, twin.bias.grad)


def test_channels_last_weight_stays_so():
    torch.manual_seed(0)
    layer = TernConv2d(8, 6, 3)
    twin = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 9, 7)
    outputs = []
    for conv, image in ((layer, x), (twin,
                                     x.to(memory_format=torch.channels_last))):
        outputs.append(conv(image))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad)
    for mode in (True, False):
        weight = twin.train(mode).ternary_weight
        torch.testing.assert_close(weight, layer.train(mode).ternary_weight)
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert layer.ternary_weight.is_contiguous()


def test_a_graph_older_than_the_weight_fails_loudly():
    layer = TernConv2d(8, 6, 3)
    x = torch.randn(2, 8, 9, 7, requires_grad=True)
    late = layer(x).sum()
    with torch.no_grad():
        layer.weight.mul_(-1)
    layer(x).sum().backward()
    with pytest.raises(RuntimeError, match='inplace operation'):
        late.backward()


def test_training_goes_on_after_inference_in_train_mode():
    layer = TernConv2d(8, 6, 3)
    x = torch.randn(2, 8, 9, 7)
    with torch.inference_mode():
        expected = layer(x)
    output = layer(x)
    output.sum().backward()
    torch.testing.assert_close(output, expected)
    with torch.no_grad():
        layer.weight.mul_(-1)
    torch.testing.assert_close(
        layer(x) - layer.bias.view(-1, 1, 1),
        layer.bias.view(-1, 1, 1) - expected)


@pytest.mark.parametrize('transposed', [False, True])
def test_an_output_of_tokens_may_be_changed_in_place(transposed):
    # As the activation in a transformer's feed-forward network does.
    layer = TernLinear(8, 6)
    x = torch.randn(2, 5, 8, requires_grad=True)
    tokens = x.transpose(0, 1) if transposed else x
    expected = torch.autograd.grad(
        layer(tokens).relu().square().sum(), (x, layer.weight))
    found = torch.autograd.grad(
        layer(tokens).relu_().square().sum(), (x, layer.weight))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)
