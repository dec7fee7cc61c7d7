# The small RetinaNet on a Swin Transformer a third as wide as Swin-T, two
# blocks a stage, trained from scratch.
_base_ = './retinanet_r18-lite.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=32,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        drop_path_rate=0.0),
    neck=dict(in_channels=[32, 64, 128, 256]))
