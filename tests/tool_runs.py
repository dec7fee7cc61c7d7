"""The tools run in this process, in a folder with small data, configs and
checkpoints."""
import runpy
import shlex
import shutil
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from .shapes import draw_shapes

REPOSITORY = Path(__file__).parent.parent
FLOAT = """
_base_ = '{root}/configs/{name}.py'
model = dict(
    backbone=dict(base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    {head})
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 48), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=(
        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
load_from = None
"""
RETINA = 'bbox_head=dict(in_channels=16, feat_channels=16)'
FASTER = ('rpn_head=dict(in_channels=16, feat_channels=16), roi_head=dict('
          'bbox_roi_extractor=dict(out_channels=16), '
          'bbox_head=dict(in_channels=16, fc_out_channels=16))')
CONFIGS = dict(
    float=('retinanet_r18-lite_shapes', RETINA),
    tern=('tern_retinanet_r18-lite_shapes', RETINA),
    faster=('tern_faster_rcnn_r18-lite_shapes', FASTER))


def make_place(root):
    """Fill a folder with small data, configs and untrained checkpoints."""
    draw_shapes(root / 'data' / 'shapes', '--train', '2', '--val', '2',
                '--test', '2', '--size', '64x48')
    init_default_scope('mmdet')
    for key, (name, head) in CONFIGS.items():
        config = root / f'{key}.py'
        config.write_text(FLOAT.format(root=REPOSITORY, name=name, head=head))
        cfg = Config.fromfile(str(config))
        torch.manual_seed(0)
        meta = dict(cfg=cfg.pretty_text, epoch=1, iter=1)
        state = MODELS.build(cfg.model).state_dict()
        torch.save(dict(meta=meta, state_dict=state), root / f'{key}.pth')
    (root / 'broken.py').write_text('model = dict(type=\n')
    (root / 'part.py').write_text('model = dict(type="RetinaNet")\n')
    (root / 'base.py').write_text('_base_ = "./nowhere.py"\n')
    (root / 'text.pth').write_text('no checkpoint')
    shutil.copy(root / 'text.pth', root / 'text.safetensors')
    (root / 'work').mkdir()
    (root / 'empty').mkdir()
    return root


def run_tool(place, monkeypatch, capsys, line, whole=False):
    """Run a tool, or ``python -m mmtern`` as 'mmtern', in this process; its
    exit status, its last line and, with ``whole``, all that it printed."""
    name, *arguments = shlex.split(line)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(REPOSITORY / 'tools'))
    if name == 'mmtern':
        main = runpy.run_module('mmtern.__main__')['main']
    else:
        main = runpy.run_path(str(REPOSITORY / 'tools' / f'{name}.py'))['main']
    try:
        main(arguments)
        status, said = 0, None
    except SystemExit as end:
        # Python prints what is no number and exits with 1.
        status, said = (end.code,
                        None) if isinstance(end.code, int) else (1, end.code)
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).strip().splitlines()
    said = said or (lines[-1] if lines else '')
    return (status, said, captured.out) if whole else (status, said)
