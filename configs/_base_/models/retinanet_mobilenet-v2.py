# RetinaNet with the neck and the head of retinanet_r18-lite.py on MobileNetV2
# (torchvision's ImageNet weights with mmdet's names).
_base_ = './retinanet_r18-lite.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 7),
        init_cfg=dict(
            type='Pretrained', checkpoint='data/weights/mobilenet_v2.pth')),
    neck=dict(in_channels=[24, 32, 96, 1280]),
    bbox_head=dict(num_classes=20))
