"""Work directories as a training leaves them, without training."""
import json
from pathlib import Path

import torch
from mmengine.config import Config

from mmtern.analysis.plan import plan_config

REPOSITORY = Path(__file__).parent.parent.parent
FLOAT = 'configs/retinanet_r18-lite_shapes.py'
TERNARY = 'configs/tern_retinanet_r18-lite_shapes.py'
EPOCH, SWITCH, EPOCHS = 10, 2, 4


def write_scalars(work_dir: Path,
                  rows,
                  stamp='20260101_000000',
                  cfg=None) -> None:
    path = work_dir / stamp / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    if cfg is not None:
        cfg.dump(str(path.parent / 'config.py'))
    (work_dir / stamp / f'{stamp}.log').write_text(
        'System environment:\n    Python: 3.11.7 (main)\n'
        '    numpy_random_seed: 17\n    PyTorch: 2.13.0+cpu\n'
        'INFO - Command: python tools/train.py tern.py\n')


def train_rows(ternary: bool) -> list:
    rows = []
    for step in range(5, EPOCH * EPOCHS + 1, 5):
        row = dict(
            lr=1e-3, loss=2 / step, loss_cls=1 / step, loss_bbox=1 / step)
        if ternary:
            row.update({
                'loss_ternary': 0.1,
                'ternary/lambda': 1e-4 if step <= EPOCH * SWITCH else 0.0,
                'ternary/phase': float(step > EPOCH * SWITCH),
                'ternary/temperature': 4 * step / (EPOCH * EPOCHS)
            })
            for part in ('backbone', 'neck'):
                row.update({
                    f'ternary/{part}_{what}': 0.5 + step / 1000
                    for what in ('cosine', 'zeros', 'flips', 'distance',
                                 'gradient')
                })
        rows.append(dict(row, epoch=step // EPOCH, iter=step, step=step))
    return rows


def val_rows() -> list:
    return [{
        'coco/bbox_mAP': 0.1 * epoch,
        'step': epoch
    } for epoch in range(1, EPOCHS + 1)]


def small_config(path: str) -> Config:
    cfg = Config.fromfile(str(REPOSITORY / path))
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    return cfg


def _hooks(cfg: Config) -> list:
    hooks = list(cfg.get('custom_hooks', []))
    return hooks + list(cfg.default_hooks.values())


def write_work_dirs(root: Path, data_root: Path) -> tuple:
    """Work directories of a ternary run and its float twin."""
    torch.manual_seed(0)
    ternary, twin = root / 'tern', root / 'float'
    state = plan_config(small_config(TERNARY)).model.state_dict()
    for path, source, epochs in ((twin, FLOAT, [EPOCHS]), (ternary, TERNARY,
                                                           [SWITCH, EPOCHS])):
        path.mkdir()
        cfg = small_config(source)
        cfg.load_from = (
            str(twin / f'epoch_{EPOCHS}.pth') if path == ternary else None)
        cfg.test_dataloader.dataset.update(
            data_root=str(data_root),
            ann_file='all.json',
            data_prefix=dict(img=''))
        if path == ternary:
            for hook in _hooks(cfg):
                if hook.get('type') == 'TernaryScheduleHook':
                    hook.begin = SWITCH
        cfg.dump(str(path / Path(source).name))
        for epoch in epochs:
            meta = dict(
                epoch=epoch,
                iter=epoch * EPOCH,
                cfg=cfg.pretty_text,
                dataset_meta=dict(CLASSES=cfg.metainfo['classes']))
            torch.save(
                dict(meta=meta, state_dict=state),
                str(path / f'epoch_{epoch}.pth'))
        # As mmengine writes it, and moved since.
        (path / 'last_checkpoint').write_text(f'/gone/epoch_{EPOCHS}.pth')
        write_scalars(path, train_rows(path == ternary) + val_rows(), cfg=cfg)
    return ternary, twin


def write_images(root: Path) -> None:
    """Two grey images with an object each, as a COCO data set."""
    import cv2
    import numpy as np
    images, annotations = [], []
    for index in range(2):
        name = f'{index}.png'
        cv2.imwrite(
            str(root / name), np.full((60, 80, 3), 128, dtype=np.uint8))
        images.append(dict(id=index, file_name=name, height=60, width=80))
        annotations.append(
            dict(
                id=index + 1,
                image_id=index,
                category_id=index + 1,
                bbox=[10, 10, 30, 20],
                area=600,
                iscrowd=0))
    categories = [
        dict(id=i + 1, name=name)
        for i, name in enumerate(('circle', 'square', 'triangle'))
    ]
    (root / 'all.json').write_text(
        json.dumps(
            dict(
                images=images, annotations=annotations,
                categories=categories)))
