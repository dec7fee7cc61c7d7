"""Models to files and back."""
import hashlib
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mmtern import Scope, TernarySettings, convert, ternary_layers
from mmtern.files import TernaryFileError, read_packed, save_packed
from mmtern.files.sizes import TERNARY
from tests.every_type import every_type, random_images
from tests.test_files.samples import (CONFIG, META, expected_state,
                                      pair_with_shared_weight, rewrite,
                                      save_toy, taken_apart, toy_model)


@pytest.mark.parametrize('encoding', ['zstd', '2bit'])
def test_every_tensor_comes_back_to_the_bit(tmp_path, encoding):
    model, _ = save_toy(tmp_path / 'a.safetensors', encoding=encoding)
    packed = read_packed(str(tmp_path / 'a.safetensors'))
    expected = expected_state(model)
    assert packed.state_dict.keys() == expected.keys()
    for name, tensor in expected.items():
        assert packed.state_dict[name].dtype == tensor.dtype
        assert torch.equal(packed.state_dict[name], tensor), name
    assert packed.exact
    assert packed.dataset_meta == META
    assert packed.written_by['torch'] == torch.__version__


def test_a_reloaded_model_computes_the_same_numbers(tmp_path):
    model, _ = save_toy(tmp_path / 'a.safetensors')
    images = torch.randn(2, 4, 6, 6)
    state = read_packed(str(tmp_path / 'a.safetensors')).state_dict
    for ternary in (True, False):
        again = toy_model(seed=1, ternary=ternary)
        again.load_state_dict(state)
        assert torch.equal(again(images), model(images))


def test_a_models_zeros_come_back(tmp_path):
    scope = Scope(include=['backbone', 'neck'], model_sparsity=0.8, stem=True)

    def model(seed):
        model = toy_model(seed, ternary=False)
        convert(model, scope)
        return model

    images = torch.randn(2, 4, 6, 6)
    save_toy(tmp_path / 'a.safetensors', model(0))
    state = read_packed(str(tmp_path / 'a.safetensors')).state_dict
    again = model(1)
    again.load_state_dict(state)
    assert torch.equal(again.eval()(images), model(0).eval()(images))


@pytest.mark.parametrize('scale', ['ttq'])
def test_trained_scales_of_any_sign_come_back(tmp_path, scale):
    method = TernarySettings(threshold='max', scale=scale)

    def model(seed):
        model = toy_model(seed, ternary=False)
        convert(model, Scope(include=['backbone', 'neck'], stem=True), method)
        return model

    trained = model(0)
    with torch.no_grad():
        trained.neck.weight_scale.normal_()
    save_toy(tmp_path / 'a.safetensors', trained, dtype='float16')
    again = model(1)
    again.load_state_dict(
        read_packed(str(tmp_path / 'a.safetensors')).state_dict)
    assert torch.equal(again.neck.ternary_weight, trained.neck.ternary_weight)


def test_exporting_twice_gives_the_same_file(tmp_path):
    model, _ = save_toy(tmp_path / 'a.safetensors')
    again = toy_model(seed=1)
    again.load_state_dict(
        read_packed(str(tmp_path / 'a.safetensors')).state_dict)
    save_toy(tmp_path / 'b.safetensors', again)
    save_toy(tmp_path / 'c.safetensors', model)
    first = (tmp_path / 'a.safetensors').read_bytes()
    assert first == (tmp_path / 'b.safetensors').read_bytes()
    assert first == (tmp_path / 'c.safetensors').read_bytes()


def test_float16_and_int8_are_marked_as_approximate(tmp_path):
    path = tmp_path / 'a.safetensors'
    model, table = save_toy(path, dtype='float16')
    packed = read_packed(str(path))
    expected = expected_state(model)
    assert not packed.exact and 'approximate' in str(table)
    norm = packed.state_dict['backbone.1.weight']
    assert norm.dtype == torch.float16
    assert torch.equal(norm, expected['backbone.1.weight'].half())
    # Ternary values and buffers are not touched.
    for name in ('neck.weight', 'backbone.1.running_mean'):
        assert torch.equal(packed.state_dict[name], expected[name])


def test_what_float16_cannot_hold_stays_float32(tmp_path):
    model = toy_model()
    model.backbone[1].weight.data[0] = 1e6
    save_toy(tmp_path / 'a.safetensors', model, dtype='float16')
    state = read_packed(str(tmp_path / 'a.safetensors')).state_dict
    assert torch.equal(state['backbone.1.weight'], model.backbone[1].weight)


def test_int8_predictions(tmp_path):
    model = toy_model()
    model.rpn_cls = torch.nn.Conv2d(8, 5, 1)
    _, table = save_toy(tmp_path / 'a.safetensors', model, predictions='int8')
    state = read_packed(str(tmp_path / 'a.safetensors')).state_dict
    weight = model.rpn_cls.weight
    step = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    error = (state['rpn_cls.weight'] - weight).abs()
    assert (error <= step * 0.5001).all() and error.any()
    assert torch.equal(state['rpn_cls.bias'], model.rpn_cls.bias)
    assert 'prediction layers' in str(table)


def test_shared_weights_are_stored_once(tmp_path):
    path = tmp_path / 'a.safetensors'
    model = pair_with_shared_weight()
    table = save_packed(model, CONFIG, str(path), META)
    state = read_packed(str(path)).state_dict
    assert state.keys() == model.state_dict().keys()
    assert torch.equal(state['first.0.weight'], state['second.0.weight'])
    assert table.sizes.total('weights') == 6 * 4 * 9 + 6 + 3 * 2 + 2


def test_table_adds_up(tmp_path):
    model, table = save_toy(tmp_path / 'a.safetensors')
    size = os.path.getsize(tmp_path / 'a.safetensors')
    before = sum(t.numel() * t.element_size()
                 for t in model.state_dict().values())
    assert table.file_size == size
    assert table.sizes.total('before') == before
    assert table.ratio == before / size
    zeros = sum((v == 0).sum() for k, v in expected_state(model).items()
                if k in ('backbone.0.weight', 'neck.weight'))
    assert table.sizes.total('zeros') == zeros


def test_a_sparse_layer_comes_back_to_the_bit(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3))
    convert(model, settings=TernarySettings(min_sparsity=0.95))
    table = save_packed(model.eval(), CONFIG, str(tmp_path / 'a.safetensors'),
                        META)
    weight = read_packed(str(tmp_path /
                             'a.safetensors')).state_dict['0.weight']
    assert torch.equal(weight, model[0].ternary_weight)
    ternary = table.sizes.in_group(TERNARY)
    assert 1 < ternary.total('codes') / ternary.total('bound') < 1.06
    save_packed(
        model, CONFIG, str(tmp_path / 'b.safetensors'), META, encoding='2bit')
    stored = safetensors.torch.load_file(str(tmp_path / 'b.safetensors'))
    assert stored['0.weight:codes'].numel() == 64 * 64 * 9 / 4


@pytest.mark.parametrize('encoding', ['zstd', '2bit'])
@pytest.mark.parametrize('min_sparsity', [0.0, 0.9])
def test_every_type_of_layer_comes_back_to_the_bit(tmp_path, encoding,
                                                   min_sparsity):
    # So many zeros are stored as runs.
    model = every_type(min_sparsity=min_sparsity)
    save_toy(tmp_path / 'a.safetensors', model, encoding=encoding)
    state = read_packed(str(tmp_path / 'a.safetensors')).state_dict
    own = model.state_dict()
    assert state.keys() == own.keys()
    latent = {}
    for name, layer in ternary_layers(model).items():
        latent[f'{name}.{layer.latent_name}'] = layer.ternary_weight.detach()
    for key, value in own.items():
        assert torch.equal(state[key], latent.get(key, value)), key
    again = every_type(seed=1, min_sparsity=min_sparsity)
    again.load_state_dict(state)
    with torch.no_grad():
        images = random_images()
        assert torch.equal(again(images), model(images))


@pytest.mark.parametrize('version, digest', [
    (1, '69bd5f139adaed064d38c476ba9f384c40f4c6bd3578d5fc5a0e6b645ea2e224'),
    (2, '481d42670847d61323c2ffea49352d5726ebd47616929daec8c74998c8f1d31d'),
])
def test_files_of_earlier_versions_are_read_to_the_bit(version, digest):
    """The files were written, and their tensors hashed, by a release that
    wrote this version; they hold all kinds of entries that it had."""
    path = Path(__file__).with_name(f'version_{version}.safetensors')
    assert taken_apart(path)[0]['version'] == version
    state = read_packed(str(path)).state_dict
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        head = f'{name} {tensor.dtype} {tuple(tensor.shape)}'
        found.update(head.encode() + tensor.contiguous().numpy().tobytes())
    assert found.hexdigest() == digest


@pytest.mark.parametrize('groups', [0, -1, 3, True, '1', None])
def test_damaged_groups_of_a_transposed_conv(tmp_path, groups):
    save_toy(tmp_path / 'a.safetensors', every_type())

    def change(metadata, tensors):
        assert metadata['transposed'] == {
            'transposed.weight': 1,
            'grouped.weight': 2
        }
        metadata['transposed']['transposed.weight'] = groups

    path = rewrite(tmp_path / 'a.safetensors', tmp_path / 'b.safetensors',
                   change)
    with pytest.raises(TernaryFileError, match='transposed.weight'):
        read_packed(path)
