"""Bad files end in TernaryFileError with one sentence, never in a crash, a
hang, much memory or a wrong tensor."""
import json
import pickle
import random
import tracemalloc

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mmtern import TernarySettings, convert
from mmtern.files import TernaryFileError, load_detector, read_packed
from mmtern.files.container import from_bytes
from tests.test_files.samples import rewrite, save_toy, taken_apart, toy_model

laws = settings(
    max_examples=100, deadline=None, derandomize=True, database=None)


def everything() -> torch.nn.Module:
    model = toy_model()
    model.rpn_cls = torch.nn.Conv2d(64, 9, 3)
    model.stem = torch.nn.Conv2d(3, 64, 7)
    model.thin = torch.nn.Conv2d(64, 63, 3)
    convert(model.thin, settings=TernarySettings(min_sparsity=0.95))
    return model.eval()


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    # All kinds of codes and byte planes occur in it.
    path = tmp_path_factory.mktemp('good') / 'good.safetensors'
    save_toy(path, everything(), predictions='int8')
    metadata, _ = taken_apart(path)
    assert all(metadata[k] for k in ('ternary', 'sparse', 'int8', 'planes'))
    return path


def check_refused(path, match=None):
    with pytest.raises(TernaryFileError, match=match) as error:
        read_packed(str(path))
    message = str(error.value)
    assert message.startswith(f'cannot read {str(path)!r}: ')
    assert '\n' not in message and len(message) < 400


def refused(data: bytes) -> bool:
    try:
        from_bytes(data)
    except TernaryFileError:
        return True
    return False


def test_truncated_at_every_fiftieth(good, tmp_path):
    data = good.read_bytes()
    path = tmp_path / 'short.safetensors'
    for part in range(50):
        path.write_bytes(data[:len(data) * part // 50])
        check_refused(path)
    path.write_bytes(data + b'\0')
    check_refused(path, 'damaged')


def test_one_flipped_bit_in_two_thousand_places(good):
    data = bytearray(good.read_bytes())
    places = random.Random(0).sample(range(8 * len(data)), 2000)
    # And each bit of the length and around the checksum.
    for place in places + list(range(8 * 200)):
        data[place // 8] ^= 1 << place % 8
        assert refused(bytes(data)), place
        data[place // 8] ^= 1 << place % 8
    assert not refused(bytes(data))


@pytest.mark.parametrize('version', [0, 3, True, '2', None])
def test_another_version(good, tmp_path, version):
    path = tmp_path / 'new.safetensors'
    rewrite(good, path,
            lambda metadata, tensors: metadata.update(version=version))
    check_refused(
        path, f'format version {version!r}, and this mmtern reads the '
        r'versions \(1, 2\)')


@pytest.mark.parametrize('data', [
    b'',
    b'\0' * 7,
    b'\0' * 8,
    b'\xff' * 64,
    (10).to_bytes(8, 'little') + b'{}',
    (2).to_bytes(8, 'little') + b'{}',
    (2).to_bytes(8, 'little') + b'[]',
    (4).to_bytes(8, 'little') + b'null',
    (100000).to_bytes(8, 'little') + b'[' * 100000,
    (3).to_bytes(8, 'little') + b'\xff\xfe\xfd',
])
def test_other_bytes(tmp_path, data):
    path = tmp_path / 'other.safetensors'
    path.write_bytes(data)
    check_refused(path)


@pytest.mark.parametrize('value', [
    '', '7', 'null', '[]', '{}', '{"version": true}', '{"version": 1}',
    '{"version": 1, "checksum": "00"}', '[' * 100000
])
def test_other_metadata(tmp_path, value):
    path = tmp_path / 'other.safetensors'
    save_file({'a': torch.zeros(2)}, str(path), {'mmtern': value})
    check_refused(path)


def test_a_plain_safetensors_file(tmp_path):
    path = tmp_path / 'plain.safetensors'
    save_file({'a': torch.zeros(2)}, str(path))
    check_refused(path, 'not written by mmtern')


def test_of_a_large_foreign_file_the_header_is_read(tmp_path):
    path = tmp_path / 'large.safetensors'
    header = json.dumps({
        'a': {
            'dtype': 'U8',
            'shape': [10**10],
            'data_offsets': [0, 10**10]
        }
    }).encode()
    with open(path, 'wb') as file:
        file.write(len(header).to_bytes(8, 'little') + header)
        file.truncate(8 + len(header) + 10**10)  # takes no room on disk
    tracemalloc.start()
    try:
        check_refused(path, 'not written by mmtern')
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_pickle_by_another_name(tmp_path):
    path = tmp_path / 'pickle.safetensors'
    torch.save(dict(state_dict=toy_model().state_dict()), path)
    check_refused(path, 'no safetensors file')
    path.write_bytes(pickle.dumps([1, 2]))
    check_refused(path, 'no safetensors file')


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_packed(str(tmp_path / 'none.safetensors'))


def test_a_folder(tmp_path):
    for read in (read_packed, load_detector):
        with pytest.raises(TernaryFileError, match='[Dd]irectory'):
            read(tmp_path)


def _set(kind, name, value):

    def change(metadata, tensors):
        metadata[kind][name] = value

    return change


def _drop(name):
    return lambda metadata, tensors: tensors.pop(name)


def _tensor(name, value):
    return lambda metadata, tensors: tensors.update({name: value})


NECK, STEM, CLS = 'neck.weight', 'stem.weight', 'rpn_cls.weight'
THIN = 'thin.weight'
BOMB = zstandard.ZstdCompressor().compress(bytes(1 << 26))


def _thin(**entry):
    return lambda metadata, _: metadata['sparse'][THIN].update(entry)


def _part(name, change):
    return lambda _, tensors: tensors.update({name: change(tensors[name])})


def _bytes(data):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


LIES = dict(
    other_shape=_set('ternary', NECK, [8, 9, 1, 1]),
    swapped_shape=_set('ternary', NECK, [4, 16, 1, 1]),
    huge_shape=_set('ternary', NECK, [8, 2**30]),
    many_axes=_set('ternary', NECK, [2**30] * 10000),
    negative=_set('ternary', NECK, [8, -8]),
    zero=_set('ternary', NECK, [0, 8]),
    no_shape=_set('ternary', NECK, 'x'),
    real_shape=_set('ternary', NECK, [8, 8.0, 1, 1]),
    boolean=_set('ternary', NECK, [8, True, 8]),
    ghost=_set('ternary', 'ghost.weight', [8, 8]),
    unlisted=lambda m, t: m['ternary'].pop(NECK),
    no_scale=_drop(NECK + ':scale'),
    short_scale=_tensor(NECK + ':scale', torch.ones(7)),
    half_scale=_tensor(NECK + ':scale',
                       torch.ones(8).half()),
    nan_scale=_tensor(NECK + ':scale', torch.full((8, ), float('nan'))),
    bad_scale=_tensor(NECK + ':scale', -torch.ones(8)),
    bad_code=_tensor(NECK + ':codes', _bytes(b'\xaa' * 16)),
    float_codes=_tensor(NECK + ':codes', torch.zeros(16)),
    bomb=_tensor(NECK + ':codes', _bytes(BOMB)),
    agreed_bomb=lambda m, t: (_tensor(NECK + ':codes', _bytes(BOMB))
                              (m, t), _set('ternary', NECK, [8, 2**25])(m, t)),
    cut_frame=lambda m, t: t.update({CLS + ':codes': t[CLS + ':codes'][:-1]}),
    two_frames=lambda m, t: t.update(
        {CLS + ':codes': torch.cat([t[CLS + ':codes']] * 2)}),
    thin_shape=_thin(shape=[63, 64, 3, 2]),
    thin_longer=_thin(shape=[63, 64, 3, 4]),
    thin_swapped=_thin(shape=[64, 63, 3, 3]),
    thin_huge=_thin(shape=[63, 2**20]),
    thin_one_axis=_thin(shape=[63 * 64 * 9]),
    thin_size=_thin(size=7),
    thin_no_size=_thin(size=None),
    thin_zero_size=_thin(size=0),
    thin_boolean=_thin(size=True),
    thin_huge_size=_thin(size=2**40),
    thin_entry=_set('sparse', THIN, [63, 64, 3, 3]),
    thin_no_gaps=_drop(THIN + ':gaps'),
    thin_no_signs=_drop(THIN + ':signs'),
    thin_no_scale=_drop(THIN + ':scale'),
    thin_short_scale=_tensor(THIN + ':scale', torch.ones(62)),
    thin_short_signs=_part(THIN + ':signs', lambda t: t[:-1]),
    thin_long_signs=_part(THIN + ':signs', lambda t: torch.cat([t, t[:1]])),
    thin_late_signs=_part(THIN + ':signs',
                          lambda t: torch.cat([t[:-1], t[-1:] | 128])),
    thin_float_signs=_part(THIN + ':signs', torch.Tensor.float),
    thin_cut=_part(THIN + ':gaps', lambda t: t[:-1]),
    thin_bomb=lambda m, t:
    (_tensor(THIN + ':gaps', _bytes(BOMB))(m, t), _thin(size=1 << 26)
     (m, t), _thin(shape=[63, 1 << 21])(m, t)),
    int8_shape=_set('int8', CLS, [9, 64, 3, 2]),
    planes_shape=lambda m, t: m['planes'][STEM].update(shape=[64, 3, 7, 6]),
    planes_huge=lambda m, t: m['planes'][STEM].update(shape=[2**31 - 1]),
    planes_dtype=lambda m, t: m['planes'][STEM].update(dtype='float64'),
    planes_kind=lambda m, t: m['planes'][STEM].update(dtype='object'),
    planes_sizes=lambda m, t: m['planes'][STEM].update(sizes=[1, 2, 3]),
    planes_negative=lambda m, t: m['planes'][STEM].update(
        sizes=[-1, 1, 0, len(t[STEM + ':planes'])]),
    planes_entry=_set('planes', STEM, 3),
    extra_part=_tensor('x:codes', _bytes(b'abc')),
    twice=lambda m, t: t.update({NECK: torch.zeros(8, 8, 1, 1)}),
    bad_alias=lambda m, t: m['aliases'].update(a='nowhere'),
    own_alias=lambda m, t: m['aliases'].update({NECK: NECK}),
    alias_kind=lambda m, t: m['aliases'].update(a=[1]),
    no_config=lambda m, t: m.pop('config'),
    list_config=lambda m, t: m.update(config=['model']),
    classes=lambda m, t: m['dataset_meta'].update(classes=[1]),
    palette=lambda m, t: m['dataset_meta'].update(palette=[['r']]),
    single_class=lambda m, t: m['dataset_meta'].update(classes='uav'),
    half_colour=lambda m, t: m['dataset_meta'].update(palette=[[0.5, 1, 2]]),
    exact=lambda m, t: m.update(exact='yes'),
    ternary_kind=lambda m, t: m.update(ternary=[NECK]),
)


@pytest.mark.parametrize('lie', LIES)
def test_lies_with_a_valid_checksum(good, tmp_path, lie):
    path = rewrite(good, tmp_path / 'lie.safetensors', LIES[lie])
    tracemalloc.start()
    try:
        check_refused(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # bytes() objects of a bomb would show here.
    assert peak < 20_000_000


@pytest.mark.parametrize('text', [
    'import os', 'model = __import__("os").system("true")', 'x = y',
    '_base_ = "/etc/x.py"', 'a = dict(b=open("x"))', 'a = dict(**b)',
    'def f(): pass', 'a = [i for i in (1, )]', 'a = "{{ fileDirname }}"',
    'a.b = 1', 'a = 1\nexec("2")', 'a = lambda: 0', 'a = (', 'a = f"{b}"',
    'a = ' + '[' * 5000, '\0', 'a = dict(1)', 'a, b = 1, 2', 'dict = 5',
    'a = {[]: 1}', 'a = -"b"', 'a = ' + '9' * 5000, 'a = "\udc80"',
    'model = {}\na = -0x' + '9' * 5000
])
def test_config_text_with_anything_but_literals(good, tmp_path, text):
    path = rewrite(good, tmp_path / 'code.safetensors',
                   lambda metadata, _: metadata.update(config=text))
    check_refused(path, 'plain literals')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(
        st.text(), children, max_size=4),
    max_leaves=10)


@laws
@given(data=st.data())
def test_any_change_of_the_metadata(good, tmp_path_factory, data):
    """Read as before, or refused."""
    before = read_packed(str(good)).state_dict

    def change(metadata, tensors):
        node = metadata
        while isinstance(node, dict) and node:
            key = data.draw(st.sampled_from(sorted(node)))
            if not isinstance(node[key],
                              (dict, list)) or data.draw(st.booleans()):
                node[key] = data.draw(json_values)
                return
            node = node[key]

    path = tmp_path_factory.mktemp('x') / 'x.safetensors'
    rewrite(good, path, change)
    try:
        after = read_packed(str(path)).state_dict
    except TernaryFileError as error:
        assert '\n' not in str(error)
        return
    # A shape may be told in another way; its rows and values stay.
    for name in before.keys() & after.keys():
        assert torch.equal(after[name].flatten(), before[name].flatten())
        assert after[name].shape[:1] == before[name].shape[:1]


@laws
@given(data=st.binary(max_size=300), header=st.booleans())
def test_any_bytes(data, header):
    if header:
        text = json.dumps({'__metadata__': {'mmtern': '{"version": 1}'}})
        data = len(text).to_bytes(8, 'little') + text.encode() + data
    assert refused(data)
