"""The way that weights go on a GPU, on whatever is here."""
import pytest
import torch

from mmtern.ops import fused

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'

# The CPU's own way first.
WAYS = [(), (DEVICE, )]
both_ways = pytest.mark.parametrize('way', WAYS, ids=['codes', 'kernels'])


def go(way: tuple) -> None:
    """Take the kernels' way on devices of these types; without a GPU, Triton
    interprets the kernels (see conftest.py)."""
    fused.DEVICES = way
    if way:
        pytest.importorskip('triton')
        assert fused.kernels_for(torch.ones(1, 1, device=DEVICE)) is not None


@pytest.fixture(autouse=True)
def own_way():
    """Leave the choice as found."""
    before = fused.DEVICES
    yield
    fused.DEVICES = before
