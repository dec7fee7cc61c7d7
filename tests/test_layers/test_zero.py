"""ZeRO broadcasts weights that other ranks have stepped, unseen by version
counters: no rank may compute with stale ones."""
import pytest
import torch.distributed as dist

from ..ranks import run_two_ranks


@pytest.mark.skipif(not dist.is_available(), reason='no torch.distributed')
def test_ranks_compute_with_the_weights_that_other_ranks_stepped(tmp_path):
    run_two_ranks('tests.test_layers.zero_ranks', tmp_path)
