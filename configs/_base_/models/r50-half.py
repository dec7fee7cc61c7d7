# A ResNet-50 of half width as Yahoo's open_nsfw classifier has it (images
# BGR), and a neck for it. A child takes it with
#     model = dict(**_base_.r50_half, ...)
r50_half = dict(
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
    neck=dict(in_channels=[128, 256, 512, 1024]))
