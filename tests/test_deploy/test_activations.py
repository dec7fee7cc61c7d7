"""8-bit activations: where they are put, and when they are refused."""
import pytest
import torch

from mmtern.deploy import save_onnx
from .test_boxes import images, spread
from .test_export import META, build

pytest.importorskip('onnx', '1.20')
pytest.importorskip('onnxruntime', '1.24')


def test_boxes_found_again_are_told(tmp_path):
    model, cfg = build('retinanet')
    table = save_onnx(
        spread(model),
        cfg,
        str(tmp_path / 'a.onnx'),
        META,
        activations='int8',
        images=images(4))
    assert 'are found again' in ' '.join(table.remarks())


def test_a_detector_that_loses_its_boxes_is_refused(tmp_path):
    """One channel that is huge leaves no steps for the others."""
    model, cfg = build('retinanet')
    spread(model)
    conv = model.bbox_head.cls_convs[0].conv
    with torch.no_grad():
        model.bbox_head.retina_cls.weight[:, 0] = 0
        conv.weight[0] = conv.weight.abs().max()
        conv.bias[0] = 1e5
    with pytest.raises(ValueError, match='8 bits are too few.*--keep'):
        save_onnx(
            model,
            cfg,
            str(tmp_path / 'a.onnx'),
            META,
            activations='int8',
            images=images(4))
    assert not list(tmp_path.iterdir())
    # Which --keep mends.
    save_onnx(
        model,
        cfg,
        str(tmp_path / 'a.onnx'),
        META,
        activations='int8',
        images=images(4),
        keep=['cls_convs', 'retina_cls'])
