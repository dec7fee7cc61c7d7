"""Every part of mmdet is found by the name that its module's is replaced
with."""
from copy import deepcopy

import mmcv.transforms
from mmdet.datasets.transforms import Resize
from mmdet.models.losses.smooth_l1_loss import L1Loss
from mmdet.registry import DATASETS, MODELS, TASK_UTILS, TRANSFORMS
from mmengine.registry import init_default_scope

from mmtern.engine.cli import read_config
from mmtern.files.type_names import (import_mmdet_parts, type_name,
                                     use_registered_names)


def test_names_of_modules_become_names_that_are_found():
    import_mmdet_parts()
    found = 0
    for registry in (MODELS, TASK_UTILS, TRANSFORMS, DATASETS):
        for part in set(registry.module_dict.values()):
            node = dict(type=f'{part.__module__}.{part.__name__}')
            use_registered_names([dict(a=(node, ))])
            assert registry.get(node['type']) is part
            found += node['type'].count('.') == 1
    assert found > 300


def test_other_names_stay():
    nodes = [
        dict(type='L1Loss', wrapped='mmdet.RetinaNet'),
        dict(type='nobody.knows.This'),
        dict(type='torch.nn.modules.conv.Conv2dd'),
        dict(name='mmdet.models.losses.smooth_l1_loss.L1Loss'),
        dict(type=L1Loss),
        dict(type=dict(a=1), runner_type=None),
    ]
    before = deepcopy(nodes)
    use_registered_names(nodes)
    assert nodes == before


def test_tools_read_what_mmengine_dumps(tmp_path):
    init_default_scope('mmdet')
    source, dumped = tmp_path / 'source.py', str(tmp_path / 'dumped.py')
    source.write_text('from mmdet.datasets.transforms import Resize\n'
                      'from mmdet.models.losses import L1Loss\n'
                      'model = dict(type=L1Loss, loss_weight=2.0)\n'
                      'pipeline = [dict(type=Resize, scale=4)]\n')
    read_config(str(source), None).dump(dumped)
    read = read_config(dumped, None)
    assert MODELS.build(read.model).loss_weight == 2.0
    assert read.pipeline[0].type == 'mmdet.Resize'


def test_bare_names():
    kinds = ('Resize', 'mmcv.Resize', 'mmcv.transforms.processing.Resize',
             mmcv.transforms.Resize, Resize)
    assert {type_name(kind) for kind in kinds} == {'Resize'}
    assert type_name(None) == ''
