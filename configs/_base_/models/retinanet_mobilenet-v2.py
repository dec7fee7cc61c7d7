# RetinaNet on MobileNetV2 (torchvision's ImageNet weights with mmdet's names),
# neck and head as in retinanet_r50-half.py.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 7),
        init_cfg=dict(
            type='Pretrained', checkpoint='data/weights/mobilenet_v2.pth')),
    neck=dict(in_channels=[24, 32, 96, 1280], out_channels=64),
    bbox_head=dict(
        num_classes=20, in_channels=64, feat_channels=64, stacked_convs=2))
