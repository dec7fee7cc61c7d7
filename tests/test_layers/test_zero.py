"""ZeRO broadcasts weights that other ranks have stepped, unseen by version
counters: no rank may compute with stale ones."""
import subprocess
import sys

import pytest
import torch.distributed as dist


@pytest.mark.skipif(not dist.is_available(), reason='no torch.distributed')
def test_ranks_compute_with_the_weights_that_other_ranks_stepped(tmp_path):
    ranks = [
        subprocess.Popen([
            sys.executable, '-m', 'tests.test_layers.zero_ranks',
            str(rank),
            str(tmp_path / 'store')
        ],
                         stderr=subprocess.PIPE,
                         text=True) for rank in range(2)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=300)
        assert rank.returncode == 0, errors[-2000:]
