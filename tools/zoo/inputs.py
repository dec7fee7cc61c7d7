"""Small random batches in the form that each kind of detector reads."""
from typing import Any, Iterator

import numpy as np
import torch
from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs
from mmengine.config import ConfigDict

# Detectors that train on pairs of frames; the other trackers train their
# image detector.
VIDEO = ('QDTrack', 'MaskTrackRCNN', 'Mask2FormerVideo')
TRACKERS = VIDEO + ('ByteTrack', 'OCSORT', 'DeepSORT', 'StrongSORT')
SEMI = ('SoftTeacher', 'SemiBaseDetector')


def train_batch(model: ConfigDict, side: int) -> dict:
    """Two images (or a pair of frames) with boxes, masks and semantics."""
    if model.type in VIDEO:
        return _video(model, side, key_frames_inds=[0])
    batch = _images(model, side)
    if model.type in SEMI:
        for sample in batch['data_samples']:
            sample.set_metainfo(
                dict(homography_matrix=np.eye(3, dtype=np.float32)))
        branches = ('sup', 'unsup_teacher', 'unsup_student')
        return {
            key: {
                branch: value
                for branch in branches
            }
            for key, value in batch.items()
        }
    return batch


def predict_batch(model: ConfigDict, side: int) -> dict:
    """As :func:`train_batch`, for inference."""
    if model.type in TRACKERS:
        return _video(model, side)
    return _images(model, side)


def _images(model: ConfigDict, side: int) -> dict:
    # The semantic branch of HTC and its kin reads labels at 1/8.
    fused = 'semantic_head' in (model.get('roi_head') or {})
    texts = ['cat . dog .'] * 2 if 'language_model' in model else None
    batch = demo_mm_inputs(
        batch_size=2,
        image_shapes=(3, side, side),
        num_items=[3, 2],
        with_mask=True,
        with_semantic=True,
        sem_seg_output_strides=8 if fused else 1,
        use_box_type=True,
        texts=texts)
    classes = _classes(model)
    proposals = demo_mm_proposals([(3, side, side)] * 2, 20)
    for sample, proposal in zip(batch['data_samples'], proposals):
        sample.gt_instances.labels %= classes
        if model.type == 'FastRCNN':
            sample.proposals = proposal
    return batch


def _video(model: ConfigDict, side: int, **kwargs) -> dict:
    return demo_track_inputs(
        batch_size=1,
        num_frames=2,
        image_shapes=(3, side, side),
        num_items=[3],
        num_classes=_classes(model),
        with_mask=True,
        **kwargs)


def _classes(model: ConfigDict) -> int:
    counts = list(_values(model, ('num_classes', 'num_things_classes')))
    return min([count for count in counts if count > 0], default=80)


def _values(node: Any, keys: tuple) -> Iterator[Any]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in keys and isinstance(value, int):
                yield value
            yield from _values(value, keys)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _values(value, keys)


def seed() -> None:
    """The same random numbers for the float model and its twin."""
    torch.manual_seed(0)
    np.random.seed(0)
