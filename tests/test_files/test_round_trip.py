import os
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtern import Scope, TernarySettings, convert
from mmtern.files import TernaryFileError, read_packed, save_packed
from mmtern.files.atomic import write_atomically
from mmtern.files.coding import (CodedWeight, decode_int8, decode_sparse,
                                 decode_ternary, encode_codes, encode_int8)
from mmtern.files.compression import MAX_RATIO, compress, decompress
from mmtern.files.gaps import (MAX_WEIGHTS, Gaps, decode_gaps, encode_gaps,
                               shorter_gaps)
from mmtern.files.planes import decode_planes, encode_planes
from mmtern.ops import entropy
from mmtern.sizes import TERNARY
from tests.test_files.samples import (CONFIG, META, expected_state,
                                      pair_with_shared_weight, save_toy,
                                      toy_model)

laws = settings(
    max_examples=40, deadline=None, derandomize=True, database=None)


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


@pytest.mark.parametrize('scale', ['learned', 'ttq'])
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


@laws
@given(st.integers(1, 9), st.integers(1, 3000), st.sampled_from([.1, .5, .97]))
def test_coded_ternary_weights(rows, d, kept):
    codes = (torch.rand(rows, d) < kept) * torch.randint(0, 2, (rows, d))
    codes = codes - ((torch.rand(rows, d) < kept) & (codes == 0)).long()
    scale = torch.rand(rows)
    for encoding in ('zstd', '2bit'):
        coded = encode_codes(codes, encoding)
        if isinstance(coded, Gaps):
            assert encoding == 'zstd'
            values = decode_sparse(coded, scale, [rows, d])
        else:
            values = decode_ternary(CodedWeight(coded, scale), [rows, d])
        assert torch.equal(values, codes * scale[:, None])


@laws
@given(
    st.integers(1, 9), st.integers(1, 3000), st.sampled_from([.002, .05, .3]))
def test_gaps_are_lossless(rows, d, kept):
    codes = (torch.rand(rows, d) < kept) * torch.randint(-1, 2, (rows, d))
    codes[0, :] = 0
    codes[-1, -1] = -1
    gaps = encode_gaps(codes)
    if d * rows > MAX_WEIGHTS * gaps.nbytes:
        with pytest.raises(TernaryFileError, match='cannot hold'):
            decode_gaps(gaps, [rows, d])
        return
    assert torch.equal(decode_gaps(gaps, [rows, d]), codes.flatten())


@pytest.mark.parametrize('zeros', [0.85, 0.9, 0.97, 0.99])
def test_sparse_codes_come_near_their_entropy(zeros):
    torch.manual_seed(0)
    codes = torch.randint(0, 2, (1_000_000, )) * 2 - 1
    codes[torch.rand(len(codes)) < zeros] = 0
    gaps = encode_codes(codes)
    bound = entropy(codes) * len(codes) / 8
    assert isinstance(gaps, Gaps)
    assert bound < gaps.nbytes < 1.02 * bound
    assert shorter_gaps(codes, gaps.nbytes) is None


@pytest.mark.parametrize('zeros', [0.0, 0.6])
def test_other_codes_are_not_gaps(zeros):
    codes = torch.ones(100_000)
    codes[torch.rand(len(codes)) < zeros] = 0
    assert isinstance(encode_codes(codes), torch.Tensor)


def test_a_sparse_layer_comes_back_to_the_bit(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3))
    convert(model, settings=TernarySettings(min_sparsity=0.95))
    table = save_packed(model.eval(), CONFIG, str(tmp_path / 'a.safetensors'),
                        META)
    weight = read_packed(str(tmp_path /
                             'a.safetensors')).state_dict['0.weight']
    assert torch.equal(weight, model[0].ternary_weight)
    ternary = table.sizes.of(TERNARY)
    assert 1 < ternary.total('codes') / ternary.total('bound') < 1.06
    save_packed(
        model, CONFIG, str(tmp_path / 'b.safetensors'), META, encoding='2bit')
    stored = safetensors.torch.load_file(str(tmp_path / 'b.safetensors'))
    assert stored['0.weight:codes'].numel() == 64 * 64 * 9 / 4


@laws
@given(st.integers(1, 5), st.integers(1, 500))
def test_coded_int8_weights(rows, d):
    weight = torch.randn(rows, d)
    weight[0] = 0
    again = decode_int8(encode_int8(weight, 'zstd'), [rows, d])
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((again - weight).abs() <= 0.5001 * step).all()


@laws
@given(
    st.integers(1, 6000),
    st.sampled_from(
        [torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_planes_are_lossless(count, dtype):
    tensor = torch.randn(count).to(dtype)
    tensor[0] = float('nan')
    planes = encode_planes(tensor)
    if planes is None:
        return
    assert len(planes.data) < count * tensor.element_size()
    again = decode_planes(planes, [count])
    assert again.dtype == dtype
    assert torch.equal(again.view(torch.uint8), tensor.view(torch.uint8))


def test_planes_shorten_trained_weights():
    weight = torch.randn(64, 576)
    assert len(encode_planes(weight).data) < 0.92 * 4 * weight.numel()
    assert len(encode_planes(weight.half()).data) < 0.85 * 2 * weight.numel()


@laws
@given(st.binary(max_size=400))
def test_compression_round_trip(data):
    assert decompress(compress(data), len(data)) == data


def test_what_would_look_like_a_bomb_is_not_compressed():
    assert compress(bytes(10000)) == bytes(10000)
    frame = compress(bytes(8) * 20 + os.urandom(40))
    assert 200 <= MAX_RATIO * len(frame)


@pytest.mark.parametrize('option, value', [('encoding', 'zip'),
                                           ('dtype', 'int8'),
                                           ('predictions', 'int4')])
def test_unknown_options(tmp_path, option, value):
    with pytest.raises(ValueError, match=f'{option} must be one of'):
        save_toy(tmp_path / 'a.safetensors', **{option: value})


def test_only_models_worth_a_file_are_taken(tmp_path):
    with pytest.raises(ValueError, match='no ternary layers'):
        save_toy(tmp_path / 'a.safetensors', toy_model(ternary=False))
    with pytest.raises(ValueError, match='.safetensors'):
        save_toy(tmp_path / 'a.pth')
    model = toy_model()
    model.neck.weight.data[0] = float('nan')
    with pytest.raises(ValueError, match='neck.weight holds values'):
        save_toy(tmp_path / 'a.safetensors', model)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_text('precious')
    with pytest.raises(FileExistsError, match='left as it is'):
        save_toy(path)
    assert path.read_text() == 'precious'
    save_toy(path, force=True)
    read_packed(str(path))
    with pytest.raises(FileNotFoundError, match='folder'):
        save_toy(tmp_path / 'no' / 'a.safetensors')


def test_a_failed_write_leaves_the_old_file_and_no_other(
        tmp_path, monkeypatch):
    path = tmp_path / 'a.safetensors'
    path.write_text('precious')

    def full_disk(_):
        raise OSError('no space left')

    monkeypatch.setattr(os, 'fsync', full_disk)
    with pytest.raises(OSError, match='no space'):
        write_atomically(str(path), b'new', force=True)
    assert path.read_text() == 'precious'
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != 'posix', reason='needs SIGKILL')
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / 'a.bin'
    path.write_bytes(b'0' * 1_000_000)
    code = ('import sys; sys.path.insert(0, sys.argv[2])\n'
            'from atomic import write_atomically\n'
            'print("ready", flush=True)\n'
            'while True:\n'
            '    for c in b"123456789":\n'
            '        write_atomically(sys.argv[1], bytes([c]) * 1_000_000, '
            'force=True)\n')
    folder = os.path.dirname(sys.modules[write_atomically.__module__].__file__)
    for delay in (0.001, 0.004, 0.009, 0.02, 0.05):
        writer = subprocess.Popen(
            [sys.executable, '-c', code,
             str(path), folder],
            stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        data = path.read_bytes()
        assert len(data) == 1_000_000 and len(set(data)) == 1
