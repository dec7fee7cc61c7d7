_base_ = './csp-nano.py'
model = dict(
    type='YOLOX',
    data_preprocessor=_base_.data_preprocessor,
    **_base_.csp_nano,
    bbox_head=dict(
        type='YOLOXHead',
        num_classes=20,
        in_channels=64,
        feat_channels=64,
        use_depthwise=True,
        norm_cfg=_base_.norm_cfg,
        act_cfg=_base_.act_cfg),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)))
