"""Mixed precision on a CPU."""
import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS

from ..small_detectors import (build, images, loss_of, small_faster_rcnn,
                               small_retinanet, ternary_twin)


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
