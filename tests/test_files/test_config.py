"""A config from a stranger touches no disk, network or process."""
import glob
import importlib
import os.path as osp
import sys
import tempfile
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from torch import nn

import mmtern
from mmtern.files import TernaryFileError, read_packed, save_packed
from mmtern.files.config import config_to_text, parse_config, render_config
from tests.test_files.samples import rewrite
from tests.toy import toy_runner

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
META = dict(classes=('cat', 'dog'), palette=[(1, 2, 3), (4, 5, 6)])
EVIL = '__import__("os").system("true")'
URL = 'http://127.0.0.1:9/x'


class Recorder:
    """What this process does to disk, network and processes while it is
    asked to look; reading the files of installed packages does not count."""
    EVENTS = ('open', 'import', 'socket.', 'subprocess.', 'urllib.', 'os.',
              'shutil.', 'pty.', 'ctypes.dlopen', 'http.', 'webbrowser.')
    # Looking for a module, and what a temporary file takes.
    QUIET = ('os.listdir', 'os.scandir', 'os.putenv', 'os.unsetenv')

    def __init__(self):
        self.seen, self.looking, self.allowed = [], False, ()
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if not self.looking or not event.startswith(self.EVENTS):
            return
        if event in self.QUIET:
            return
        first = str(arguments[0]) if arguments else ''
        if first and first.startswith(self.allowed):
            return
        self.seen.append((event, first))

    def __enter__(self):
        self.seen, self.looking = [], True
        return self.seen

    def __exit__(self, *_):
        self.looking = False


RECORDER = Recorder()
IMAGE = np.zeros((64, 64, 3), np.uint8)


def small_config() -> Config:
    cfg = Config.fromfile(
        osp.join(ROOT, 'configs', 'tern_retinanet_r18-lite_bccd.py'))
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    return cfg


PIPELINE = small_config().to_dict()['test_dataloader']['dataset']['pipeline']


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A packed detector, loaded once by each door so that all that mmdet
    imports late is there."""
    path = tmp_path_factory.mktemp('good') / 'good.safetensors'
    cfg = small_config()
    init_default_scope('mmdet')
    save_packed(MODELS.build(cfg.model), cfg, str(path), META)
    inference_detector(mmtern.load_detector(str(path)), IMAGE)
    inferencer(path)
    RECORDER.allowed = (str(tmp_path_factory.getbasetemp()), )
    return path


def inferencer(path):
    return DetInferencer(weights=str(path), device='cpu', show_progress=False)


def with_text(good, tmp_path, text):
    return rewrite(good, tmp_path / 'evil.safetensors',
                   lambda metadata, _: metadata.update(config=text))


def edited(good, change):
    values = parse_config(read_packed(str(good)).config)
    change(values)
    return render_config(values)


def put(place, value):
    """Set the value at a place such as 'model.backbone.type'."""

    def change(values):
        *parents, last = place.split('.')
        node = values
        for name in parents:
            node = node[int(name)] if isinstance(node, (list, tuple)) \
                else node.setdefault(name, {})
        node[last] = value

    return change


def command(**kwargs):
    return dict(type='os.system', command='true', **kwargs)


DATASET = 'test_dataloader.dataset'
STRANGE = dict(
    backbone=put('model.backbone', command()),
    neck=put('model.neck', command()),
    head=put('model.bbox_head', command()),
    detector=put('model', command()),
    wrapped=put('model.wrapped', 'os.system'),
    plain_wrapped=put('model.wrapped', 'subprocess.Popen'),
    loss=put('model.bbox_head.loss_cls', command()),
    anchors=put('model.bbox_head.anchor_generator', command()),
    norm=put('model.backbone.norm_cfg', command()),
    conv=put('model.backbone.conv_cfg', command()),
    plugin=put('model.backbone.plugins', [dict(cfg=command())]),
    deep=put('model.backbone.a', [[(dict(b=[{
        'c': command()
    }]), )]]),
    preprocessor=put('model.data_preprocessor', command()),
    augment=put('model.data_preprocessor.batch_augments', [command()]),
    init=put('model.backbone.init_cfg', command()),
    builtin=put('model.backbone', dict(type='builtins.exec')),
    module=put('model.backbone', dict(type='antigravity')),
    other_kind=put('model.backbone', dict(type='LocalVisBackend')),
    longer=put('model.backbone', dict(type='mmdet.os.system')),
    own_path=put('model.backbone', dict(type='mmengine.fileio.get')),
    inside=put('model.backbone', dict(type='mmtern.files.packed.open')),
    class_of_mine=put('model.backbone',
                      dict(type='mmengine.config.Config.fromfile')),
    nms=put('model.test_cfg.nms', dict(type=EVIL)),
    nms_dotted=put('model.test_cfg.nms', dict(type='os.system')),
    warp=put('model.cmc',
             dict(type='CameraMotionCompensation', warp_mode=EVIL)),
    scope=put('model._scope_', 'antigravity'),
    scope_of_part=put('model.backbone._scope_', 'os'),
    default_scope=put('default_scope', 'antigravity'),
    imports=put('custom_imports', dict(imports=['antigravity'])),
    imports_text=put('custom_imports', dict(imports='antigravity')),
    imports_failing=put('custom_imports',
                        dict(imports=['this'], allow_failed_imports=True)),
    collate=put('test_dataloader.collate_fn', 'os.system'),
    collate_dict=put('test_dataloader.collate_fn', command()),
    collate_module=put('test_dataloader.collate_fn', 'antigravity'),
    worker=put('train_dataloader.worker_init_fn', command()),
    sampler=put('test_dataloader.sampler', command()),
    batch_sampler=put('train_dataloader.batch_sampler', command()),
    dataset=put('train_dataloader.dataset', command()),
    transform=put(f'{DATASET}.pipeline', [command()]),
    train_transform=put('train_dataloader.dataset.pipeline', [command()]),
    tokenizer=put(f'{DATASET}.pipeline',
                  [dict(type='RandomSamplingNegPos', tokenizer_name=URL)]),
    visualizer=put('visualizer', command()),
    visualizer_kind=put('visualizer', dict(type='DumpDetResults')),
    hook=put('custom_hooks', [command()]),
    default_hook=put('default_hooks.mine', command()),
    optimizer=put('optim_wrapper.optimizer', dict(type='os.system')),
    constructor=put('optim_wrapper.constructor', 'os.system'),
    scheduler=put('param_scheduler', [command()]),
    evaluator=put('test_evaluator', command()),
    loop=put('train_cfg', command()),
    runner=put('runner_type', 'os.system'),
    sharding=put(
        'model_wrapper_cfg',
        dict(type='MMFullyShardedDataParallel', auto_wrap_policy='os.system')),
    variable=put('my_own', command()),
    albu=put(f'{DATASET}.pipeline', [
        dict(
            type='Albu',
            transforms=[dict(type='load', filepath_or_buffer='/etc/passwd')])
    ]),
    albu_dotted=put('train_pipeline',
                    [dict(type='Albu', transforms=[command()])]),
    teacher=put(
        'model',
        dict(
            type='KnowledgeDistillationSingleStageDetector',
            teacher_config='evil.py')),
    teacher_weights=put('model', dict(type='LAD', teacher_ckpt='evil.pth')),
    language=put('model.language_model', dict(type='BertModel', name='evil')),
    tracker=put('model.link',
                dict(type='AppearanceFreeLink', checkpoint='evil.pth')),
    address=put('model.backbone.style', URL),
    local=put('model.backbone.style', 'file:///etc/passwd'),
    root=put('model.backbone.style', '/etc/passwd'),
    home=put('model.backbone.style', '~'),
    number=put('model.backbone', dict(type=5)),
    truth=put('model.backbone', dict(type=True)),
)
TEXTS = dict(
    unicode='model = dict(ｔype="os.system", command="true")',
    escape='model = dict(**{"t\\x79pe": "os.system", "command": "true"})',
    escaped_key='model = {"t\\u0079pe": "os.system", "command": "true"}',
    concatenated='model = dict(type="os" ".sys" "tem", command="true")',
    return_='x = 1 # \rmodel = dict(type="os.system", command="true")',
    again='model = dict(type="RetinaNet")\nmodel = dict(type="os.system")',
    delete='model = dict(_delete_=True, type="os.system", command="true")',
    placeholder='model = dict(type="RetinaNet", a="{{ $HOME:x }}")',
    hidden_placeholder='model = dict(type="RetinaNet", a="\\x7b{ $HOME:x }}")',
    base='_base_ = "/etc/x.py"\nmodel = dict(type="RetinaNet")',
    deprecation='_deprecation_ = 5\nmodel = dict(type="RetinaNet")',
    dunder='__builtins__ = 5\nmodel = dict(type="RetinaNet")',
    reserved='filename = "a"\nmodel = dict(type="RetinaNet")',
    lazy='from mmengine.config import read_base\nmodel = dict(type="os")',
    lazy_type='model = dict(type="<class \'os.system\'>")',
    call='model = dict(type=dict)',
    float_='model = dict(type="RetinaNet", a=float("1"))',
    shadow='dict = 5\nmodel = {"type": "RetinaNet"}',
    shadow_float='float = 5\nmodel = {"type": "RetinaNet"}',
    no_model='a = 1',
    number_model='model = 5',
    no_hash='a = {[]: 1}',
    spread='model = {"type": "RetinaNet", **{"a": 1}}',
    twice='model = dict(type="RetinaNet", type="os.system")',
    nested='model = ' + 'dict(a=' * 3000 + '1' + ')' * 3000,
    lists='model = dict(a=' + '[' * 90 + ']' * 90 + ', type="os.system")',
)


def check_refused(door, path):
    with RECORDER as seen, pytest.raises(TernaryFileError) as error:
        door(path)
    assert not seen
    assert '\n' not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize('name', [*STRANGE, *TEXTS])
def test_strange_configs_are_refused(good, tmp_path, name):
    text = TEXTS.get(name) or edited(good, STRANGE[name])
    check_refused(mmtern.load_detector, with_text(good, tmp_path, text))


@pytest.mark.parametrize('name', ['backbone', 'collate', 'nms', 'imports'])
def test_they_are_refused_by_every_door(good, tmp_path, name):
    path = with_text(good, tmp_path, edited(good, STRANGE[name]))
    runner = toy_runner(tmp_path, load_from=path)
    cfg = small_config()
    for door in (read_packed, inferencer, CheckpointLoader.load_checkpoint,
                 lambda path: init_detector(cfg, path, device='cpu'),
                 lambda path: runner.load_or_resume()):
        check_refused(door, path)


HARMLESS = dict(
    pretrained=put('model.pretrained', URL),
    backbone_pretrained=put('model.backbone.pretrained', '/etc/passwd'),
    init=put('model.backbone.init_cfg',
             dict(type='Pretrained', checkpoint=URL)),
    init_list=put('model.backbone.init_cfg',
                  [dict(type='Pretrained', checkpoint='file:///etc/passwd')]),
    load_from=put('load_from', URL),
    resume=put('resume', True),
    work_dir=put('work_dir', '/etc/x'),
    classes_file=put(f'{DATASET}.metainfo', dict(classes='/etc/passwd')),
    classes_address=put(f'{DATASET}.metainfo', dict(palette=URL)),
    data_root=put(f'{DATASET}.data_root', URL),
    ann_file=put(f'{DATASET}.ann_file', '/etc/passwd'),
    lazy=put(f'{DATASET}.lazy_init', False),
    concatenated=put(
        DATASET,
        dict(
            type='ConcatDataset',
            datasets=[
                dict(
                    type='CocoDataset',
                    ann_file='/etc/passwd',
                    pipeline=PIPELINE)
            ])),
    v3det=put(DATASET,
              dict(type='V3DetDataset', data_root=URL, pipeline=PIPELINE)),
    crowd=put(
        DATASET,
        dict(
            type='CrowdHumanDataset',
            data_root='/etc',
            ann_file='passwd',
            pipeline=PIPELINE)),
    odvg=put(
        DATASET,
        dict(
            type='ODVGDataset',
            data_root='/',
            label_map_file='etc/passwd',
            pipeline=PIPELINE)),
    loops=put('train_cfg.by_epoch', False),
    backend=put(f'{DATASET}.backend_args', dict(backend='petrel')),
    image_backend=put(f'{DATASET}.pipeline', [
        dict(
            type='LoadImageFromFile',
            backend_args=dict(backend='petrel', path_mapping={'/': URL})),
        *PIPELINE[1:]
    ]),
    image_client=put('tta_pipeline', [
        dict(type='LoadImageFromFile', file_client_args=dict(backend='http'))
    ]),
    wandb=put('visualizer.vis_backends', [
        dict(type='WandbVisBackend', init_kwargs=dict(project='x')),
        dict(type='LocalVisBackend', save_dir='/etc/x')
    ]),
    mlflow=put('visualizer.vis_backends',
               [dict(type='MLflowVisBackend', tracking_uri=URL)]),
    save_dir=put('visualizer.save_dir', '/etc/x'),
)


@pytest.mark.parametrize('name', HARMLESS)
def test_files_and_addresses_of_a_config_stay_closed(good, tmp_path, name):
    path = with_text(good, tmp_path, edited(good, HARMLESS[name]))
    with RECORDER as seen:
        detector = mmtern.load_detector(path)
    assert not seen
    with RECORDER as seen:
        inference_detector(detector, IMAGE)
    assert not seen
    # mmengine reads the text through a temporary file.
    RECORDER.allowed += (tempfile.gettempdir(), 'tmp')
    try:
        with RECORDER as seen:
            inferencer(path)
    finally:
        RECORDER.allowed = RECORDER.allowed[:-2]
    assert not seen


def test_a_trusted_config_imports_what_it_names(good, tmp_path, monkeypatch):
    (tmp_path / 'my_parts.py').write_text(
        'from mmdet.registry import MODELS\n'
        'from mmdet.models import ResNet\n'
        'MODELS.register_module(name="MyResNet", module=ResNet, force=True)\n')
    monkeypatch.syspath_prepend(str(tmp_path))

    def change(values):
        values['model']['backbone']['type'] = 'MyResNet'
        values['custom_imports'] = dict(imports=['my_parts'])

    path = with_text(good, tmp_path, edited(good, change))
    try:
        with pytest.raises(TernaryFileError, match='my_parts.*import it firs'):
            mmtern.load_detector(path)
        assert 'my_parts' not in sys.modules
        mmtern.load_detector(path, trust_config=True)
        # Once it is there, whoever imported it, it is an own part.
        mmtern.load_detector(path)
        assert inferencer(path).model is not None
    finally:
        sys.modules.pop('my_parts', None)
        MODELS.module_dict.pop('MyResNet', None)
        importlib.invalidate_caches()


@pytest.mark.parametrize('key,value', [
    ('stacked_convs', 10**7),
    ('feat_channels', 6000),
])
def test_a_config_that_builds_more_than_the_file_fills_is_stopped(
        good, tmp_path, key, value):
    path = with_text(good, tmp_path,
                     edited(good, put(f'model.bbox_head.{key}', value)))
    with pytest.raises(TernaryFileError, match='than its tensors fill'):
        mmtern.load_detector(path)
    # A later building is not counted.
    assert sum(1 for _ in nn.ModuleList([nn.Identity()] * 5000)) == 5000


def test_own_registered_parts_are_built(good, tmp_path):

    @MODELS.register_module()
    class TernOwnNeck(nn.Module):

        def forward(self, x):
            return x

    values = parse_config(read_packed(str(good)).config)
    values['model']['neck']['own'] = dict(type='TernOwnNeck')
    path = with_text(good, tmp_path, render_config(values))
    read_packed(path)


OURS = sorted(
    osp.basename(path)
    for path in glob.glob(osp.join(ROOT, 'configs', '*.py')))
ZOO = (
    'retinanet/retinanet_r50_fpn_1x_coco',
    'faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco',
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
    'cascade_rpn/cascade-rpn_r50-caffe_fpn_1x_coco',
    'rtmdet/rtmdet_tiny_8xb32-300e_coco', 'yolox/yolox_tiny_8xb8-300e_coco',
    'detr/detr_r50_8xb2-150e_coco', 'dino/dino-4scale_r50_8xb2-12e_coco',
    'fpg/retinanet_r50_fpg_crop640_50e_coco',
    'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco',
    'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco',
    'bytetrack/bytetrack_yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain_'
    'test-mot17halfval', 'albu_example/mask-rcnn_r50_fpn_albu-1x_coco',
    'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712',
    'cityscapes/faster-rcnn_r50_fpn_1x_cityscapes')


def _config(name):
    if name in OURS:
        return Config.fromfile(osp.join(ROOT, 'configs', name))
    return get_config(f'mmdet::{name}.py')


@pytest.mark.parametrize('name', [*OURS, *ZOO])
def test_honest_configs_are_read_as_they_were_written(good, tmp_path, name):
    cfg = _config(name)
    text = config_to_text(cfg)
    if 'model' not in cfg:
        pytest.skip('a fragment')
    values = parse_config(read_packed(with_text(good, tmp_path, text)).config)
    expected = cfg.to_dict()
    # What pretrained weights stood for lies in the file.
    assert (values['model'].keys() -
            {'pretrained'} == expected['model'].keys() - {'pretrained'})
    assert values.keys() < expected.keys()
    if name in OURS:
        loader, before = (x['test_dataloader'] for x in (values, expected))
        assert loader.pop('dataset')['pipeline'] == before.pop(
            'dataset')['pipeline']
        assert loader == before


def test_what_tells_of_its_owner_is_not_in_a_file(tmp_path):
    """Passwords, addresses and paths, wherever mmengine reads them."""
    cfg = small_config()
    told = dict(access_key='SECRET', data_root='/home/SECRET')
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = cfg[name].dataset
        dataset.update(data_root='/home/SECRET', backend_args=told)
        dataset.pipeline[0].backend_args = told
    cfg.test_evaluator.ann_file = '/home/SECRET.json'
    cfg.visualizer = dict(
        type='DetLocalVisualizer',
        save_dir='/home/SECRET',
        vis_backends=[
            dict(type='WandbVisBackend', init_kwargs=dict(api_key='SECRET'))
        ])
    cfg.tta_pipeline = [dict(type='LoadImageFromFile', backend_args=told)]
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='/home/SECRET.pth')
    cfg.update(work_dir='/home/SECRET', load_from='/home/SECRET', own='SECRET')
    before = deepcopy(cfg.to_dict())
    text = config_to_text(cfg, META['classes'])
    assert 'SECRET' not in text
    assert cfg.to_dict() == before
    dataset = parse_config(text)['test_dataloader']['dataset']
    assert dataset['metainfo'] == dict(classes=META['classes'])


@pytest.mark.parametrize('value', [float('inf'), float('-inf'), 1e300, -1.5])
def test_numbers_without_end(value):
    cfg = Config(dict(model=dict(type='RetinaNet', ranges=[(-1, value)])))
    text = config_to_text(cfg)
    assert parse_config(text)['model']['ranges'] == [(-1, value)]
    assert Config.fromstring(text, '.py').model.ranges == [(-1, value)]


def test_no_number():
    text = config_to_text(Config(dict(model=dict(a=float('nan')))))
    assert str(parse_config(text)['model']['a']) == 'nan'


@pytest.mark.parametrize('value', [torch.float16, np.float32(1), b'a', 1j])
def test_the_key_of_what_is_no_literal_is_told(value):
    cfg = Config(dict(model=dict(head=dict(reach=[1, value]))))
    with pytest.raises(TernaryFileError, match='model.head.reach holds a '):
        config_to_text(cfg)


def test_a_new_style_config_names_its_types_by_module(good, tmp_path):
    values = parse_config(read_packed(str(good)).config)
    values['model']['wrapped'] = 'mmdet.models.RetinaNet'
    values['model']['neck']['type'] = 'mmdet.models.necks.fpn.FPN'
    # mmdet.models.losses has functions of these modules' names.
    values['model']['bbox_head'].update(
        loss_bbox=dict(type='mmdet.models.losses.iou_loss.GIoULoss'),
        reg_decoded_bbox=True)
    put('optim_wrapper.optimizer.type', 'torch.optim.sgd.SGD')(values)
    path = with_text(good, tmp_path, render_config(values))
    detector = mmtern.load_detector(path)
    assert detector.neck.num_outs == 5
    assert type(detector.bbox_head.loss_bbox).__name__ == 'GIoULoss'
