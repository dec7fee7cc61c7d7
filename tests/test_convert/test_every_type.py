"""What convert, freeze and the rest promise holds for every type of layer."""
import copy
import io

import pytest
import torch
from mmcv.cnn.bricks import wrappers
from torch import nn

from mmtern import Scope, TernaryWeight, freeze, ternary_layers
from mmtern.analysis.expected_sizes import expected_sizes
from mmtern.analysis.measure import measure_model, summarize
from mmtern.convert import survey
from mmtern.engine.hooks.regularizer import cosine_distances
from mmtern.layers import TWINS
from mmtern.ops import filters_of
from tests.every_type import LAYERS, every_type, random_images

# mmcv's names for three of torch's layers.
WRAPPERS = (wrappers.Conv2d, wrappers.ConvTranspose2d, wrappers.Linear)
SETTINGS = [
    dict(),
    dict(threshold='exact', min_sparsity=0.8),
    dict(scale='lsq'),
    dict(threshold='max', scale='ttq'),
    dict(forward='soft'),
]


def three_valued(weight, groups=0):
    rows = filters_of(weight, groups).flatten(1)
    return all(len(row.abs()[row != 0].unique()) <= 1 for row in rows)


@pytest.mark.parametrize('settings', SETTINGS)
def test_training_gives_every_weight_a_gradient(settings):
    model = every_type(**settings).train()
    keys = every_type(ternary=False).state_dict().keys()
    own = [x for x in model.state_dict() if not x.endswith('weight_scale')]
    assert own == list(keys)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = copy.deepcopy(model.state_dict())
    for layer in ternary_layers(model).values():
        # A soft forward is flat at temperature 0.
        layer.quantizer.temperature = 4.0
    model(random_images()).square().sum().backward()
    for name, layer in ternary_layers(model).items():
        assert layer.latent.grad.isfinite().all(), name
        assert layer.latent.grad.any(), name
    optimizer.step()
    for name, layer in ternary_layers(model).items():
        key = f'{name}.{layer.latent_name}'
        assert not torch.equal(before[key], layer.latent), name


@pytest.mark.parametrize('beta', [0.0, 0.5])
def test_the_approach_phase_lies_between(beta):
    model, plain = every_type().train(), every_type(ternary=False)
    for name, layer in ternary_layers(model).items():
        ternary = layer.ternary_weight.detach()
        layer.quantizer.beta = beta
        latent = layer.filters(layer.latent).detach()
        expected = torch.lerp(latent,
                              filters_of(ternary, layer.transposed_groups),
                              beta)
        found = filters_of(layer.ternary_weight.detach(),
                           layer.transposed_groups)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if beta == 0:
        # With the latent weights each layer computes what the float one does.
        torch.testing.assert_close(
            model(random_images()),
            plain(random_images()),
            rtol=1e-4,
            atol=1e-5)


@pytest.mark.parametrize('settings', SETTINGS[:4])
def test_a_frozen_model_is_plain_and_computes_the_same(settings):
    model = every_type(**settings)
    x = random_images()
    with torch.no_grad():
        expected = model(x)
        frozen = freeze(model)
        assert torch.equal(frozen(x), expected)
        buffer = io.BytesIO()
        torch.save(frozen, buffer)
        buffer.seek(0)
        for other in (copy.deepcopy(frozen),
                      torch.load(buffer, weights_only=False)):
            assert torch.equal(other(x), expected)
    assert not ternary_layers(frozen)
    for name, layer in ternary_layers(model).items():
        plain = frozen.get_submodule(name)
        assert not isinstance(plain, TernaryWeight)
        weight = getattr(plain, layer.latent_name)
        assert torch.equal(weight, layer.ternary_weight)
        if 'ttq' not in settings.values():
            assert three_valued(weight, layer.transposed_groups), name
        with pytest.raises(RuntimeError, match='cannot be trained'):
            plain.train()


def test_the_regularizer_pulls_on_every_weight():
    model = every_type().train()
    layers = ternary_layers(model).values()
    loss = cosine_distances(layers)
    expected = sum((1 - layer.projection.cosine()).sum() for layer in layers)
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    for name, layer in ternary_layers(model).items():
        assert layer.latent.grad.any(), name


def test_measures_know_every_weight():
    model = every_type()
    measures = measure_model(model, model.state_dict())
    assert list(measures) == LAYERS
    for name, measure in measures.items():
        layer = ternary_layers(model)[name]
        assert measure.shape == layer.latent.shape
        assert torch.equal(measure.codes, layer.codes.flatten(1))
        assert sum(measure.histogram) == pytest.approx(1)
    count = sum(layer.latent.numel()
                for layer in ternary_layers(model).values())
    total = sum(p.numel() for p in model.parameters())
    assert summarize(model)['ternary'] == pytest.approx(count / total)
    assert all(size.size > 0 for size in expected_sizes(model, measures))


def test_no_type_is_left_out():
    types = {type(x) for x in every_type(ternary=False).modules()}
    assert {x for x in TWINS if x not in WRAPPERS} <= types


def test_only_what_must_stays():
    report = survey(every_type(ternary=False), Scope(stem=True))
    assert {
        x.name: x.reason
        for x in report.left
    } == {
        'predicting.conv_offset': 'prediction',
        'masking.conv_offset': 'prediction',
        'switchable.weight_diff': 'SAConv2d.weight_diff',
    }
    assert [x.name for x in report.ternary] == LAYERS
    assert isinstance(every_type().attention.out_proj, nn.Linear)


def test_a_layer_shows_how_it_is_ternary():
    for layer in ternary_layers(every_type()).values():
        assert layer.extra_repr().endswith(
            'threshold=mean, scale=norm, min_sparsity=0')
        assert not layer.extra_repr().startswith(',')
