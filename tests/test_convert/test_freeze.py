"""A frozen model is a plain one that computes the same."""
import copy
import io

import pytest
import torch
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from torch import nn
from torch.func import functional_call, grad

from mmtern import Scope, TernarySettings, convert, freeze, ternary_layers
from tests.small_detectors import (build, images, loss_of, small_faster_rcnn,
                                   small_retinanet, ternary_twin)


class Network(nn.Module):
    """Convolutions of each kind, two that share a weight, and a linear
    layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, padding='same', groups=2)
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect')
        self.again = nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect')
        self.again.weight = self.mirrored.weight
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        x = self.grouped(self.first(x).relu()).relu()
        x = self.again(self.mirrored(x).relu()).relu()
        return self.last(x.mean((2, 3)))


def network(**settings) -> nn.Module:
    torch.manual_seed(0)
    model = Network()
    scope = Scope(include=['.'], stem=True, predictions=True)
    convert(model, scope, TernarySettings(**settings))
    assert len(ternary_layers(model)) == 5
    return model.eval()


SETTINGS = [
    dict(),
    dict(threshold='exact', min_sparsity=0.8),
    dict(scale='lsq'),
    dict(scale='ttq'),
]
X = torch.randn(2, 6, 9, 7, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('settings', SETTINGS)
def test_bit_equal_and_plain(settings):
    model = network(**settings)
    expected, names = model(X), list(ternary_layers(model))
    before = copy.deepcopy(model.state_dict())
    frozen = freeze(model)
    assert torch.equal(frozen(X), expected)
    assert not ternary_layers(frozen) and names
    for name in names:
        layer, plain = model.get_submodule(name), frozen.get_submodule(name)
        assert isinstance(plain, (nn.Conv2d, nn.Linear))
        assert torch.equal(plain.weight, layer.ternary_weight)
        assert {n for n, _ in plain.named_parameters()} <= {'weight', 'bias'}
    # The model it came from is as it was.
    assert list(ternary_layers(model)) == names
    assert all(
        torch.equal(value, before[key])
        for key, value in model.state_dict().items())
    assert torch.equal(model(X), expected)


def test_in_place():
    model = network()
    expected = model(X)
    layer = model.first
    assert freeze(model, inplace=True) is model
    assert model.first is layer and not ternary_layers(model)
    assert torch.equal(model(X), expected)


def test_a_layer_alone():
    layer = network().first
    assert torch.equal(freeze(layer)(X), layer(X))


def test_shared_weights_stay_shared():
    frozen = freeze(network())
    assert frozen.again.weight is frozen.mirrored.weight


def test_a_model_in_training_is_frozen_in_eval():
    model = network()
    expected = model(X)
    frozen = freeze(model.train())
    assert model.training and not any(m.training for m in frozen.modules())
    assert torch.equal(frozen(X), expected)


def test_a_model_whose_train_returns_nothing():

    class Silent(Network):

        def train(self, mode=True):
            super().train(mode)

    model = Silent()
    convert(model)
    model.eval()
    assert torch.equal(freeze(model)(X), model(X))


@pytest.mark.parametrize('name', [
    'boxinst/boxinst_r50_fpn_ms-90k_coco.py',
    'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
])
def test_mask_heads_that_keep_tensors_of_their_last_loss(name):
    if name.startswith('boxinst'):
        pytest.importorskip('skimage')
    model = get_config(f'mmdet::{name}').model
    model.backbone.update(
        depth=18, base_channels=8, norm_eval=False, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=32)
    model.bbox_head.update(
        num_classes=3, in_channels=32, feat_channels=32, stacked_convs=1)
    model.mask_head.mask_feature_head.update(
        in_channels=32, feat_channels=32, num_stacked_convs=1)
    detector = build(ternary_twin(model)).train()
    MessageHub.get_current_instance().update_info('iter', 0)
    loss_of(detector, images(with_mask=True)).backward()
    frozen = freeze(detector)
    assert not ternary_layers(frozen) and ternary_layers(detector)
    one, other = (
        x.eval().test_step(images())[0].pred_instances
        for x in (detector, frozen))
    assert torch.equal(one.scores, other.scores)


def test_training_is_refused():
    frozen = freeze(network())
    with pytest.raises(RuntimeError, match='cannot be trained'):
        frozen.train()
    with pytest.raises(RuntimeError, match='mmtern.freeze'):
        frozen.first.train()
    assert frozen.eval() is frozen
    assert not any(
        frozen.get_submodule(name).weight.requires_grad
        for name in ('first', 'grouped', 'last'))


def test_symbolic_tracing():
    model = network()
    # What mmengine's efficient_conv_bn_eval begins with.
    with pytest.raises(ValueError, match='trace mmtern.freeze'):
        torch.fx.symbolic_trace(model)
    frozen = freeze(model)
    assert torch.equal(torch.fx.symbolic_trace(frozen)(X), frozen(X))


def test_copies_and_pickles():
    frozen = freeze(network())
    buffer = io.BytesIO()
    torch.save(frozen, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(frozen), freeze(frozen),
                  torch.load(buffer, weights_only=False)):
        assert torch.equal(other(X), frozen(X))


def test_a_state_dict_of_its_own():
    frozen, other = freeze(network()), Network().eval()
    other.load_state_dict(frozen.state_dict())
    assert torch.equal(other(X), frozen(X))


def test_torch_export():
    frozen = freeze(network())
    program = torch.export.export(frozen, (X, ))
    assert torch.allclose(program.module()(X), frozen(X), atol=1e-6)


def test_torch_jit():
    frozen = freeze(network())
    for module in (torch.jit.trace(frozen, (X, )), torch.jit.script(frozen)):
        assert torch.allclose(module(X), frozen(X), atol=1e-6)


def test_torch_func():
    model = network()
    frozen = freeze(model)
    parameters = dict(frozen.named_parameters())

    def loss(x):
        return functional_call(frozen, parameters, (x, )).square().sum()

    x = X.clone().requires_grad_()
    model(x).square().sum().backward()
    assert torch.allclose(grad(loss)(X), x.grad, atol=1e-5)


@pytest.mark.parametrize('maker', [small_retinanet, small_faster_rcnn])
def test_detectors(maker):
    model = build(ternary_twin(maker())).eval()
    frozen = freeze(model)
    assert type(frozen) is type(model)
    with torch.no_grad():
        data = model.data_preprocessor(images())
        for one, other in zip(
                model(**data, mode='tensor'), frozen(**data, mode='tensor')):
            for a, b in zip(one, other):
                assert torch.equal(a, b)
