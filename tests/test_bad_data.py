"""On bad data a ternary detector does what its float twin does."""
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

WIDTH, HEIGHT = 64, 48
CLASSES = ('circle', 'square', 'triangle')


def image(index):
    return dict(id=index, file_name=f'{index}.jpg', width=WIDTH, height=HEIGHT)


def box(index, image_id, bbox, category=1):
    return dict(
        id=index,
        image_id=image_id,
        category_id=category,
        bbox=bbox,
        area=bbox[2] * bbox[3],
        iscrowd=0)


def boxes_of(case):
    good = [box(i + 1, i, [8, 8, 24, 24]) for i in range(2)]
    if case == 'no boxes':
        return good[:1]
    if case == 'no box at all':
        return []
    if case == 'degenerate boxes':
        return [
            *good,
            box(3, 0, [10, 10, 0, 20]),
            box(4, 0, [60, 40, 500, 500]),
            box(5, 1, [-90, -90, 20, 20]),
            box(6, 1, [10, 10, -5, 5])
        ]
    if case == 'unknown class':
        return [*good, box(3, 0, [20, 10, 20, 20], category=9)]
    return good


def write(root, case):
    generator = np.random.default_rng(0)
    for index in range(2):
        pixels = generator.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(root / f'{index}.jpg'), pixels)
    if case == 'corrupt JPEG':
        (root / '1.jpg').write_bytes(b'\xff\xd8\xff\xe0 no image')
    if case == 'truncated JPEG':
        data = (root / '1.jpg').read_bytes()
        (root / '1.jpg').write_bytes(data[:len(data) // 2])
    images = [] if case == 'empty data set' else [image(0), image(1)]
    categories = [dict(id=i + 1, name=n) for i, n in enumerate(CLASSES)]
    (root / 'all.json').write_text(
        json.dumps(
            dict(
                images=images,
                annotations=boxes_of(case) if images else [],
                categories=categories)))


def outcome(config, root, work_dir, case):
    """(error type, its first line), or (None, number of steps)."""
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.load_from, cfg.log_level = str(work_dir), None, 'ERROR'
    cfg.train_cfg.max_epochs = 1
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.default_hooks.checkpoint = None
    if cfg.model.type.startswith('Tern'):
        cfg.default_hooks.ternary.begin = 0
        del cfg.default_hooks['regularizer'], cfg.default_hooks['statistics']
    cfg.model.backbone.init_cfg = None
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False, batch_size=2)
    loader.dataset.update(
        data_root=str(root), ann_file='all.json', data_prefix=dict(img=''))
    if 'box' in case:
        loader.dataset.filter_cfg.filter_empty_gt = False
    for step in loader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (WIDTH, HEIGHT)
    cfg.randomness = dict(seed=0)
    cfg.experiment_name = f'{work_dir.name}_{root.parent.name}'
    try:
        runner = Runner.from_cfg(cfg)
        runner.train()
    except Exception as error:
        return type(error), str(error).splitlines()[0]
    assert all(p.isfinite().all() for p in runner.model.parameters())
    return None, runner.iter


@pytest.mark.parametrize('model', [
    'retinanet',
    pytest.param('faster_rcnn', marks=pytest.mark.slow),
])
@pytest.mark.parametrize('case, survives', [
    ('no box at all', True),
    ('degenerate boxes', True),
    ('corrupt JPEG', False),
    ('empty data set', False),
    pytest.param('good', True, marks=pytest.mark.slow),
    pytest.param('no boxes', True, marks=pytest.mark.slow),
    pytest.param('unknown class', True, marks=pytest.mark.slow),
    pytest.param('truncated JPEG', False, marks=pytest.mark.slow),
])
def test_same_as_the_float_twin(tmp_path, model, case, survives):
    root = tmp_path / 'data'
    root.mkdir()
    write(root, case)
    torch.manual_seed(0)
    plain, ternary = (
        outcome(f'configs/{prefix}{model}_r18-lite_shapes.py', root,
                tmp_path / f'run{prefix}', case) for prefix in ('', 'tern_'))
    assert (plain[0] is None) is survives, plain
    assert plain == ternary
