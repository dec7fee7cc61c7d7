# Deformable DETR as small as the DETR it begins with, on two scales.
_base_ = './detr_r18-lite.py'
sampled = dict(_delete_=True, embed_dims=_base_.dims, num_levels=2)
model = dict(
    type='DeformableDETR',
    num_feature_levels=2,
    backbone=dict(out_indices=(2, 3)),
    neck=dict(
        in_channels=[128, 256],
        norm_cfg=dict(type='GN', num_groups=32),
        num_outs=2),
    encoder=dict(layer_cfg=dict(self_attn_cfg=sampled)),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=sampled), post_norm_cfg=None),
    positional_encoding=dict(offset=-0.5),
    bbox_head=dict(
        type='DeformableDETRHead',
        sync_cls_avg_factor=True,
        loss_cls=dict(
            _delete_=True, type='FocalLoss', use_sigmoid=True,
            loss_weight=2.0)),
    train_cfg=dict(
        assigner=dict(match_costs=[
            dict(type='FocalLossCost', weight=2.0),
            dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
            dict(type='IoUCost', iou_mode='giou', weight=2.0)
        ])))
