"""Two processes of one gloo group."""
import subprocess
import sys
from contextlib import contextmanager

import torch.distributed as dist

from mmtern.engine.distributed import leave_process_group


@contextmanager
def gloo_rank(rank, store):
    """Be this rank of two, and leave the group in order: at the interpreter's
    exit gloo's threads now and then abort it."""
    dist.init_process_group(
        'gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    try:
        yield
    finally:
        leave_process_group()


def run_two_ranks(module, folder):
    """Run ``python -m module RANK STORE`` for both ranks; all must end
    well."""
    ranks = [
        subprocess.Popen(
            [sys.executable, '-m', module,
             str(rank),
             str(folder / 'store')],
            stderr=subprocess.PIPE,
            text=True) for rank in range(2)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=300)
        assert rank.returncode == 0, errors[-2000:]
