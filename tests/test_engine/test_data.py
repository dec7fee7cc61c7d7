import pytest
from mmengine.config import Config

from mmtern.engine.data import check_data


def loader(**dataset):
    return Config(dict(train_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize('dataset', [
    dict(ann_file='all.json', data_root='gone/'),
    dict(ann_file='gone.json'),
    dict(ann_file='gone.json', backend_args=None),
    dict(ann_file='gone.json', backend_args=dict(backend='local')),
    dict(type='RepeatDataset', dataset=dict(ann_file='gone.json')),
    dict(datasets=[dict(ann_file='gone.json')]),
])
def test_missing_local_files_are_named(dataset):
    with pytest.raises(FileNotFoundError, match='train_dataloader.*gone'):
        check_data(loader(**dataset), 'train_dataloader')


@pytest.mark.parametrize('dataset', [
    dict(ann_file='all.json', data_root='s3://bucket/coco/'),
    dict(ann_file='s3://bucket/all.json', data_root=''),
    dict(
        ann_file='all.json',
        data_root='data/coco/',
        backend_args=dict(
            backend='petrel', path_mapping={'data/': 's3://bucket/'})),
    dict(datasets=[dict(ann_file='http://host/all.json')]),
])
def test_remote_data_is_left_to_the_file_client(dataset):
    check_data(loader(**dataset), 'train_dataloader')


def test_what_is_there_passes(tmp_path):
    (tmp_path / 'all.json').write_text('{}')
    check_data(
        loader(ann_file='all.json', data_root=str(tmp_path)),
        'train_dataloader', 'val_dataloader')
