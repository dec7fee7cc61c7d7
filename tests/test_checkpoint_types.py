import os
import pickle

import pytest
import torch

import mmtern  # noqa: F401
from mmtern import TernaryScheduleHook
from .toy import toy_runner

strict_by_default = pytest.mark.skipif(
    tuple(map(int,
              torch.__version__.split('.')[:2])) < (2, 6),
    reason='weights_only is off by default before torch 2.6')


@strict_by_default
def test_own_checkpoints_load_with_the_check_on(tmp_path):
    runner = toy_runner(tmp_path, [TernaryScheduleHook()], epochs=1)
    runner.train()
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert history.current() == runner.message_hub.get_scalar(
        'train/loss').current()


class Reaches:
    """Pickles as ``getattr(owner, name)``."""

    def __init__(self, owner, name):
        self.reference = owner, name

    def __reduce__(self):
        return getattr, self.reference


@strict_by_default
def test_the_check_still_refuses_everything_else(tmp_path):
    path = tmp_path / 'evil.pth'
    for evil in (Reaches(torch.Tensor, 'numpy'), Reaches(dict,
                                                         'get'), os.system):
        torch.save(dict(state_dict=evil), path)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)
