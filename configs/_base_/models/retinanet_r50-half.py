# RetinaNet small enough to train on two CPU cores: ResNet-50 of half width as
# Yahoo's open_nsfw classifier has it (images BGR), 64 channels in neck and
# head, two stacked convs.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
model = dict(
    data_preprocessor=dict(
        mean=[104, 117, 123], std=[1, 1, 1], bgr_to_rgb=False),
    backbone=dict(
        base_channels=32,
        stem_channels=64,
        style='caffe',
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=dict(
            type='Pretrained', checkpoint='data/weights/resnet50_half.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024], out_channels=64),
    bbox_head=dict(
        num_classes=20, in_channels=64, feat_channels=64, stacked_convs=2))
