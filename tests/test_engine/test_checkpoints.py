"""One reader for every command: bare, of a run, of DDP, packed."""
import pytest
import torch

from mmtern.engine.checkpoints import read_checkpoint
from ..test_files.samples import expected_state, save_toy, toy_model


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('bare', [True, False])
def test_names_are_the_models(tmp_path, prefix, bare):
    expected = toy_model().state_dict()
    state = {prefix + name: value for name, value in expected.items()}
    torch.save(
        state if bare else dict(state_dict=state, meta=dict(epoch=2)),
        tmp_path / 'a.pth')
    found = read_checkpoint(str(tmp_path / 'a.pth'))
    assert list(found['state_dict']) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found['state_dict'][name], value)
    assert found['meta'] == ({} if bare else dict(epoch=2))


def test_a_packed_file(tmp_path):
    model, _ = save_toy(tmp_path / 'a.safetensors')
    found = read_checkpoint(str(tmp_path / 'a.safetensors'))
    for name, value in expected_state(model).items():
        assert torch.equal(found['state_dict'][name], value)
    assert found['meta']['dataset_meta']['classes'] == ('cat', 'dog')


def test_something_else_is_named(tmp_path):
    torch.save([1, 2], tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='a.pth.*holds list'):
        read_checkpoint(str(tmp_path / 'a.pth'))
