"""Mixed precision on a CPU."""
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS

from mmtern.engine.cli import use_amp
from ..small_detectors import (build, images, loss_of, small_faster_rcnn,
                               small_retinanet, ternary_twin)


@pytest.mark.skipif(torch.cuda.is_available(), reason='of CPUs')
def test_a_config_for_a_gpu():
    wrapper = dict(
        type='AmpOptimWrapper',
        loss_scale='dynamic',
        dtype='float16',
        accumulative_counts=2,
        optimizer=dict(type='SGD', lr=0.1))
    cfg = Config(dict(optim_wrapper=wrapper))
    use_amp(cfg)
    built = build_optim_wrapper(torch.nn.Linear(2, 2), cfg.optim_wrapper)
    assert type(built).__name__ == 'CPUAmpOptimWrapper'
    assert built._accumulative_counts == 2


@pytest.mark.parametrize('config', [small_retinanet, small_faster_rcnn])
def test_bfloat16_loses_little_and_leaves_nothing_behind(config):
    detector = build(ternary_twin(config())).train()
    torch.manual_seed(1)
    expected = loss_of(detector, images())
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='CPUAmpOptimWrapper',
            optimizer=torch.optim.SGD(detector.parameters(), lr=1e-3)))
    torch.manual_seed(1)
    with wrapper.optim_context(detector):
        loss = loss_of(detector, images())
        computed = detector.backbone(images()['inputs'][0][None].float())
    wrapper.update_params(loss)
    assert computed[0].dtype == torch.bfloat16
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
    assert loss != expected
    # Outside of it nothing is cast.
    computed = detector.bfloat16().extract_feat(
        images()['inputs'][0][None].bfloat16())
    assert computed[0].dtype == torch.bfloat16
