"""The built detector, through the tools its users know."""
import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmtern import ternary_layers

CONFIGS = [
    f'configs/tern_{name}_r18-lite_shapes.py'
    for name in ('retinanet', 'faster_rcnn')
]


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    """Two noise images with a box each, as a COCO data set."""
    root = tmp_path_factory.mktemp('data')
    generator = np.random.default_rng(0)
    images = []
    for index in range(2):
        name = f'{index}.png'
        pixels = generator.integers(0, 255, (240, 320, 3), dtype=np.uint8)
        cv2.imwrite(str(root / name), pixels)
        images.append(dict(id=index, file_name=name, height=240, width=320))
    annotations = [
        dict(
            id=i + 1,
            image_id=i,
            category_id=1,
            bbox=[40, 40, 80, 80],
            area=6400,
            iscrowd=0) for i in range(2)
    ]
    categories = [
        dict(id=i + 1, name=name)
        for i, name in enumerate(('circle', 'square', 'triangle'))
    ]
    (root / 'all.json').write_text(
        json.dumps(
            dict(
                images=images, annotations=annotations,
                categories=categories)))
    return root


def detector_config(path, data_root, work_dir):
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.load_from = str(work_dir), None
    cfg.log_level = 'ERROR'
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.update(
            data_root=str(data_root),
            ann_file='all.json',
            data_prefix=dict(img=''))
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(data_root / 'all.json')
    return cfg


def build(cfg):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for name, parameter in model.named_parameters():
        # Untrained predictions are too unsure to survive the score
        # threshold.
        if name.endswith(('retina_cls.bias', 'fc_cls.bias')):
            torch.nn.init.constant_(parameter, 0.0)
    return model


@pytest.mark.parametrize('path', CONFIGS)
def test_every_ternary_weight_holds_three_values(path, tmp_path, data_root):
    model = build(detector_config(path, data_root, tmp_path)).eval()
    layers = ternary_layers(model)
    assert len(layers) >= 30
    for name, layer in layers.items():
        rows = layer.ternary_weight.flatten(1)
        scale = rows.abs().amax(1, keepdim=True)
        assert ((rows == 0) | (rows.abs() == scale)).all(), name


@pytest.mark.parametrize('path', CONFIGS)
def test_state_dict_is_the_float_twins(path, tmp_path, data_root):
    cfg = detector_config(path, data_root, tmp_path)
    ternary = build(cfg)
    twin = dict(cfg.model, type=cfg.model.wrapped)
    twin.pop('wrapped')
    floating = MODELS.build(twin)
    assert type(ternary) is type(floating)
    shapes = {k: v.shape for k, v in floating.state_dict().items()}
    assert shapes == {k: v.shape for k, v in ternary.state_dict().items()}
    ternary.load_state_dict(floating.state_dict(), strict=True)
    floating.load_state_dict(ternary.state_dict(), strict=True)


@pytest.mark.parametrize('path', CONFIGS)
def test_tools_agree_from_the_config_alone(path, tmp_path, data_root):
    cfg = detector_config(path, data_root, tmp_path)
    model = build(cfg)
    checkpoint = str(tmp_path / 'checkpoint.pth')
    classes = ('circle', 'square', 'triangle')
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=dict(classes=classes))), checkpoint)
    config_path = str(tmp_path / 'config.py')
    cfg.dump(config_path)
    image = str(data_root / '0.png')

    test_cfg = Config.fromfile(config_path)
    test_cfg.load_from = checkpoint
    runner = Runner.from_cfg(test_cfg)
    runner.load_or_resume()
    runner.model.eval()
    with torch.no_grad():
        batch = next(iter(runner.test_dataloader))
        by_runner = runner.model.test_step(batch)[0].pred_instances
    initialized = init_detector(config_path, checkpoint, device='cpu')
    by_api = inference_detector(initialized, image).pred_instances
    inferencer = DetInferencer(
        config_path, checkpoint, device='cpu', show_progress=False)
    by_inferencer = inferencer(image)['predictions'][0]
    assert len(by_runner) > 0
    assert torch.equal(by_runner.scores, by_api.scores)
    assert torch.equal(by_runner.bboxes, by_api.bboxes)
    assert torch.equal(by_runner.labels, by_api.labels)
    assert by_inferencer['scores'] == by_runner.scores.tolist()
    assert by_inferencer['bboxes'] == by_runner.bboxes.tolist()
    for used in (initialized, inferencer.model):
        assert ternary_layers(used)
