"""Packed files wherever a checkpoint goes."""
import os.path as osp
import runpy
import shutil
import sys
from copy import deepcopy
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.models import L1Loss
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file

import mmtern
from mmtern.files import (TernaryFileError, read_packed, refuse_other_files,
                          save_packed)
from tests.test_files.samples import META, expected_state, rewrite, save_toy
from tests.toy import ToyModel, toy_runner

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
DETECTORS = ('retinanet', 'faster_rcnn')


def config_path(name: str) -> str:
    return osp.join(ROOT, 'configs', f'tern_{name}_r18-lite_bccd.py')


def config(name: str) -> Config:
    """The lite detector with an eighth of the backbone's channels, showing
    boxes even with random weights."""
    cfg = Config.fromfile(config_path(name))
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    test_cfg = cfg.model.test_cfg
    test_cfg.get('rcnn', test_cfg).update(score_thr=0.0, max_per_img=40)
    resize = cfg.test_dataloader.dataset.pipeline[1]
    assert resize.type == 'Resize'
    resize.update(scale=(128, 96))
    return cfg


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """For each detector its config, checkpoint and packed file."""
    folder = tmp_path_factory.mktemp('detectors')
    found = {}
    for name in DETECTORS:
        cfg = config(name)
        init_default_scope('mmdet')
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        for buffer in model.buffers():
            if buffer.dtype == torch.float32:
                buffer.uniform_(0.5, 1.5)
        checkpoint = folder / f'{name}.pth'
        torch.save(
            dict(meta=dict(dataset_meta=META), state_dict=model.state_dict()),
            checkpoint)
        cfg.dump(folder / f'{name}.py')
        packed = folder / f'{name}.safetensors'
        run_export(folder / f'{name}.py', checkpoint, packed)
        found[name] = (cfg, str(checkpoint), str(packed))
    return found


def run_export(*arguments) -> None:
    """tools/export.py in this process."""
    argv = sys.argv
    sys.argv = ['export.py', *map(str, arguments)]
    try:
        runpy.run_path(
            osp.join(ROOT, 'tools', 'export.py'), run_name='__main__')
    finally:
        sys.argv = argv


def detect(model, image) -> list:
    found = inference_detector(model, image).pred_instances
    return [found.bboxes, found.scores, found.labels]


@pytest.mark.parametrize('name', DETECTORS)
def test_detections_are_the_checkpoints_to_the_bit(files, name):
    cfg, checkpoint, packed = files[name]
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    expected = detect(init_detector(cfg, checkpoint, device='cpu'), image)
    assert len(expected[0]) == 40
    inferencer = DetInferencer(
        weights=packed, device='cpu', show_progress=False)
    models = [
        init_detector(cfg, packed, device='cpu'),
        mmtern.load_detector(packed), inferencer.model
    ]
    for model in models:
        for found, value in zip(detect(model, image), expected):
            assert torch.equal(found, value)
        assert model.dataset_meta['classes'] == META['classes']


@pytest.mark.parametrize('name', DETECTORS)
def test_the_float_twin_runs_it_as_well(files, name):
    cfg, checkpoint, packed = files[name]
    twin = deepcopy(cfg)
    twin.model.type = twin.model.pop('wrapped')
    image = np.full((96, 128, 3), 90, np.uint8)
    expected = detect(init_detector(cfg, checkpoint, device='cpu'), image)
    found = detect(init_detector(twin, packed, device='cpu'), image)
    for one, other in zip(found, expected):
        assert torch.equal(one, other)


def test_another_models_file_is_refused(files):
    packed = files['retinanet'][2]
    other = MODELS.build(files['faster_rcnn'][0].model)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(TernaryFileError, match='of another model: .* differ'):
        load_checkpoint(other, packed)
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key])
    with pytest.raises(TernaryFileError, match='of another model'):
        init_detector(files['faster_rcnn'][0], packed, device='cpu')


def test_another_models_file_is_refused_for_a_float_model(files):
    model = deepcopy(files['faster_rcnn'][0].model)
    model.type = model.pop('wrapped')
    float_model = MODELS.build(model)
    refuse_other_files(float_model)  # as tools/test.py does
    load_checkpoint(float_model, files['faster_rcnn'][2])
    with pytest.raises(TernaryFileError, match='of another model'):
        load_checkpoint(float_model, files['retinanet'][2])


def test_another_models_file_is_refused_by_a_ternary_part(files):
    cfg = files['retinanet'][0]
    model = deepcopy(cfg.model)
    model.type = model.pop('wrapped')
    backbone = dict(model.backbone)
    model.backbone = dict(backbone, type='TernBackbone', wrapped='ResNet')
    # Fits: the rest of the file is none of the backbone's business.
    load_checkpoint(MODELS.build(model), files['retinanet'][2])
    model.backbone.depth = 34
    with pytest.raises(TernaryFileError, match='of another model'):
        load_checkpoint(MODELS.build(model), files['retinanet'][2])


def test_a_runner_loads_it(tmp_path):
    path = tmp_path / 'toy.safetensors'
    trained, _ = save_toy(path)
    runner = toy_runner(tmp_path, load_from=str(path))
    runner.load_or_resume()
    for key, value in expected_state(trained).items():
        assert torch.equal(runner.model.state_dict()[key], value)


def test_training_can_go_on_from_it(tmp_path):
    path = tmp_path / 'toy.safetensors'
    save_toy(path)
    runner = toy_runner(tmp_path, load_from=str(path), epochs=1)
    runner.train()
    assert all(p.isfinite().all() for p in runner.model.parameters())


def test_resuming_from_it_is_refused(tmp_path):
    path = tmp_path / 'toy.safetensors'
    save_toy(path)
    runner = toy_runner(tmp_path, load_from=str(path), resume=True)
    with pytest.raises(TernaryFileError, match='toy.*resume=False'):
        runner.train()


def test_only_this_ending_is_read_so(tmp_path):
    find = CheckpointLoader._get_checkpoint_loader
    packed = find('x.safetensors')
    assert packed is find('/a b/c.safetensors') is find('a://x.safetensors')
    assert packed.__name__ == 'load_from_packed'
    for address in ('https://x/y.safetensors', 'http://x/y.safetensors?a=b'):
        assert find(address) is packed
    for other in ('x.pth', 'x.safetensors.pth', 'https://x/y.pth',
                  'https://x/y.pth?a=b.safetensors', 'open-mmlab://resnet50'):
        assert find(other) is not packed


def test_weights_go_where_they_are_mapped(tmp_path):
    path = tmp_path / 'toy.safetensors'
    save_toy(path)
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='meta')
    assert loaded['state_dict']['neck.weight'].device.type == 'meta'


class Files(SimpleHTTPRequestHandler):
    """Counts what it is asked for; ends a named file too early."""
    asked = []

    def do_GET(self):
        self.asked.append(self.path)
        if 'cut' not in self.path:
            super().do_GET()
            return
        data = open(self.translate_path(self.path), 'rb').read()[:-100]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    Files.asked = []
    handler = partial(Files, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_an_address_is_fetched_once(files, tmp_path, server):
    shutil.copy(files['retinanet'][2], tmp_path / 'a.safetensors')
    address = f'{server}/a.safetensors?signed=1'
    expected = mmtern.load_detector(files['retinanet'][2]).state_dict()
    for _ in range(2):
        found = mmtern.load_detector(address).state_dict()
        assert all(torch.equal(found[k], v) for k, v in expected.items())
    loaded = CheckpointLoader.load_checkpoint(address, 'cpu')
    assert loaded['state_dict'].keys() == expected.keys()
    assert Files.asked == ['/a.safetensors?signed=1']


def test_what_cannot_be_fetched_is_told_and_not_kept(files, tmp_path, server):
    shutil.copy(files['retinanet'][2], tmp_path / 'cut.safetensors')
    save_file({'a': torch.zeros(2)}, str(tmp_path / 'other.safetensors'))
    for name, reason in (('cut', 'incomplete or damaged'),
                         ('other', 'not written by mmtern'), ('none', '404')):
        address = f'{server}/{name}.safetensors'
        with pytest.raises(
                TernaryFileError, match=f'{name}.safetensors.*{reason}'):
            mmtern.load_detector(address)
    with pytest.raises(TernaryFileError, match='cannot fetch'):
        mmtern.load_detector('http://127.0.0.1:9/a.safetensors')
    home = tmp_path / 'home' / 'hub' / 'checkpoints'
    assert not list(home.iterdir())


def test_a_file_is_read_once(files):
    """Opened through an audit hook's eyes."""
    path, opened = files['retinanet'][2], []
    mmtern.load_detector(path)

    def hook(event, arguments):
        if event == 'open' and arguments[0] == path:
            opened.append(path)

    sys.addaudithook(hook)
    mmtern.load_detector(path)
    assert len(opened) == 1


def test_a_config_that_does_not_build_is_told_in_a_sentence(files, tmp_path):
    path = rewrite(
        Path(files['retinanet'][2]), tmp_path / 'a.safetensors', lambda
        metadata, _: metadata.update(config='model = dict(type="RetinaNet")'))
    with pytest.raises(TernaryFileError, match='cannot build the detector'):
        mmtern.load_detector(path)


def test_config_text_rebuilds_the_model_without_its_checkpoints(tmp_path):
    cfg = config('retinanet')
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='torchvision://resnet18')
    cfg.load_from, cfg.work_dir = 'a.pth', 'work_dirs/a'
    save_packed(
        MODELS.build(cfg.model), cfg, str(tmp_path / 'a.safetensors'), META)
    assert cfg.load_from == 'a.pth'
    text = read_packed(str(tmp_path / 'a.safetensors')).config
    again = Config.fromstring(text, file_format='.py')
    assert again.model.backbone.init_cfg is None
    assert 'load_from' not in again and 'work_dir' not in again
    again.model.backbone.init_cfg = cfg.model.backbone.init_cfg
    assert again.model == cfg.model
    pipeline = cfg.test_dataloader.dataset.pipeline
    assert again.test_dataloader.dataset.pipeline == pipeline


def test_a_file_of_a_config_that_imports_its_types_loads(tmp_path):
    cfg = config('retinanet')
    model = MODELS.build(cfg.model)
    # As mmengine writes them.
    cfg.model.update(
        type='mmtern.models.wrappers.TernDetector',
        wrapped='mmdet.models.detectors.retinanet.RetinaNet')
    cfg.model.bbox_head.loss_bbox = dict(
        type='mmdet.models.losses.smooth_l1_loss.L1Loss')
    path = str(tmp_path / 'a.safetensors')
    save_packed(model, cfg, path, META)
    detector = mmtern.load_detector(path)
    assert isinstance(detector.bbox_head.loss_bbox, L1Loss)


@pytest.mark.parametrize('arguments, sentence', [
    (['CFG', 'CKPT', 'out.pt'], 'OUT must end in'),
    (['CFG', 'none.pth', 'out.safetensors'], 'does not exist'),
    (['none.py', 'CKPT', 'out.safetensors'], 'does not exist'),
    (['CFG', 'CFG', 'out.safetensors'], 'cannot be loaded'),
    (['CFG', 'OTHER', 'out.safetensors'], 'cannot be loaded'),
    (['CFG', 'CKPT', 'EXISTING'], '--force replaces it'),
    (['CFG', 'CKPT', 'no/out.safetensors'], 'folder .* does not exist'),
    (['CFG', 'CKPT', 'out.safetensors', '--weights', 'int4'
      ], '--weights does not apply'),
    (['CFG', 'CKPT', 'out.onnx', '--dtype', 'float16'
      ], '--dtype does not apply'),
    (['FLOAT', 'CKPT', 'out.safetensors'], 'no ternary layers'),
])
def test_export_says_what_is_wrong_in_a_sentence(files, tmp_path, monkeypatch,
                                                 tmp_path_factory, arguments,
                                                 sentence):
    monkeypatch.chdir(tmp_path)
    _, checkpoint, packed = files['retinanet']
    config = checkpoint.replace('.pth', '.py')
    float_config = tmp_path_factory.mktemp('float') / 'float.py'
    twin = deepcopy(files['retinanet'][0])
    twin.model.type = twin.model.pop('wrapped')
    twin.dump(float_config)
    names = dict(
        CFG=config,
        CKPT=checkpoint,
        OTHER=files['faster_rcnn'][1],
        EXISTING=packed,
        FLOAT=str(float_config))
    with pytest.raises(SystemExit, match=sentence) as stop:
        run_export(*[names.get(a, a) for a in arguments])
    assert '\n' not in str(stop.value)
    assert not list(tmp_path.iterdir())


def test_other_state_dicts_are_not_checked(tmp_path):
    path = tmp_path / 'toy.safetensors'
    save_toy(path)
    model = ToyModel()
    mmtern.files.refuse_other_files(model)
    load_checkpoint(model, str(path))
    model.load_state_dict({}, strict=False)
