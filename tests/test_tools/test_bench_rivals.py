import json

import numpy as np
import onnxruntime
import pytest
import torch

from tools.bench_rivals import four_bits, main, write

onnx = pytest.importorskip('onnx')


def test_four_bits_is_a_file_of_int4_weights_near_the_float_one(tmp_path):
    torch.manual_seed(0)
    source, target = (str(tmp_path / f'{x}.onnx') for x in ('float', 'four'))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU())
    images = [torch.randn(3, 8, 8) for _ in range(4)]
    torch.onnx.export(
        model, (images[0][None], ),
        source,
        input_names=['image'],
        dynamo=False,
        opset_version=17)
    four_bits(source, target, images)
    kinds = [x.data_type for x in onnx.load(target).graph.initializer]
    assert onnx.TensorProto.INT4 in kinds
    session = onnxruntime.InferenceSession(target)
    found, = session.run(None, dict(image=images[0][None].numpy()))
    expected = model(images[0][None]).detach().numpy()
    error = np.square(found - expected).mean() / expected.var()
    assert 1e-5 < error < 0.05


def test_lines_and_table_are_ordered_by_size(tmp_path):
    lines = [
        dict(
            case='X',
            detector=name,
            file='float',
            bytes=size,
            AP=30.0,
            AP50=50.0)
        for name, size in (('large', 2 * 10**6), ('small', 10**6))
    ]
    write(lines, str(tmp_path / 'rivals'))
    read = [
        json.loads(line)
        for line in (tmp_path / 'rivals.jsonl').read_text().splitlines()
    ]
    assert [x['detector'] for x in read] == ['small', 'large']
    rows = (tmp_path / 'rivals.md').read_text().splitlines()[2:]
    assert rows == [
        '| X | small | float | 1.00 MB | 30.0 | 50.0 |',
        '| X | large | float | 2.00 MB | 30.0 | 50.0 |'
    ]


def test_asks_for_a_detector(monkeypatch):
    monkeypatch.setattr('sys.argv', ['bench_rivals.py', 'X'])
    with pytest.raises(SystemExit, match='--float or --ternary NAME CONFIG'):
        main()
