"""Priors and boxes are those of mmdet's own generators and coders."""
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.task_modules import (AnchorGenerator, MlvlPointGenerator,
                                       SSDAnchorGenerator)
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder

from mmtern.deploy.boxes import DenseBoxes, moved_boxes

SIZES = [(9, 7), (5, 4), (3, 1)]


@pytest.mark.parametrize(
    'generator',
    [
        AnchorGenerator(
            strides=[8, 16, 32], ratios=[0.5, 1, 2], scales=[4, 8]),
        # 4, 6 and 4 priors a cell.
        SSDAnchorGenerator(
            strides=[8, 16, 32],
            ratios=[[2], [2, 3], [2]],
            min_sizes=[20, 40, 80],
            max_sizes=[40, 80, 160]),
        MlvlPointGenerator(strides=[8, 16, 32], offset=0.5),
    ])
def test_priors_of_all_levels_together(generator):
    head = SimpleNamespace(prior_generator=generator)
    expected = generator.grid_priors(SIZES, device='cpu')
    places = torch.cat([torch.arange(len(own)) for own in expected])
    levels = torch.cat([
        torch.full((len(own), ), index) for index, own in enumerate(expected)
    ])
    order = torch.randperm(len(places))
    maps = [torch.zeros(2, 1, *size) for size in SIZES]
    found = DenseBoxes.priors(
        SimpleNamespace(head=head), torch.stack([levels, levels[order]]),
        torch.stack([places, places[order]]), maps)
    expected = torch.cat(expected)
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], expected[order])


@pytest.mark.parametrize('settings', [
    {},
    dict(target_means=(0.1, 0.0, -0.2, 0.3), target_stds=(0.1, 0.1, 0.2, 0.2)),
    dict(add_ctr_clamp=True, ctr_clamp=16),
])
def test_boxes_of_deltas(settings):
    coder = DeltaXYWHBBoxCoder(**settings)
    corners = torch.rand(2, 50, 4) * 300
    boxes = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:]],
                      -1)
    # Beyond the bounds of shifts and sides, too.
    deltas = torch.randn(2, 50, 4) * 4
    expected = torch.stack(
        [coder.decode(*image) for image in zip(boxes, deltas)])
    torch.testing.assert_close(
        moved_boxes(coder, boxes, deltas), expected, rtol=1e-5, atol=1e-3)
