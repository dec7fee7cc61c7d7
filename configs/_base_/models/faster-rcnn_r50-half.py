# Faster R-CNN with the neck and the heads of faster-rcnn_r18-lite.py and the
# backbone of retinanet_r50-half.py.
_base_ = './faster-rcnn_r18-lite.py'
model = dict(
    data_preprocessor=dict(
        mean=[104, 117, 123], std=[1, 1, 1], bgr_to_rgb=False),
    backbone=dict(
        depth=50,
        base_channels=32,
        stem_channels=64,
        style='caffe',
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='data/weights/resnet50_half.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024]),
    roi_head=dict(bbox_head=dict(num_classes=20)))
