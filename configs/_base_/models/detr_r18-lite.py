# DETR on a ResNet-18 of half width, with three layers of 128 channels in
# encoder and decoder and 25 queries, trained from scratch.
dims = 128
attention = dict(embed_dims=dims, num_heads=8, dropout=0.0, batch_first=True)
ffn = dict(embed_dims=dims, feedforward_channels=4 * dims, ffn_drop=0.0)
model = dict(
    type='DETR',
    num_queries=25,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        type='ResNet', depth=18, base_channels=32, out_indices=(3, )),
    neck=dict(
        type='ChannelMapper',
        in_channels=[256],
        kernel_size=1,
        out_channels=dims,
        act_cfg=None,
        num_outs=1),
    encoder=dict(
        num_layers=3, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=3,
        layer_cfg=dict(
            self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
        return_intermediate=True),
    positional_encoding=dict(num_feats=dims // 2, normalize=True),
    bbox_head=dict(
        type='DETRHead',
        num_classes=3,
        embed_dims=dims,
        loss_cls=dict(
            type='CrossEntropyLoss', bg_cls_weight=0.1, class_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='ClassificationCost', weight=1.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0)
            ])),
    test_cfg=dict(max_per_img=25))
