# Backbone and neck of YOLOX-Nano as Megvii trained them on COCO: depthwise
# separable convs, images BGR in 0 to 255, padded with 114. SiLU is Swish in
# one operation: a training step on a CPU takes a seventh less time.
norm_cfg = dict(type='BN', momentum=0.03, eps=0.001)
act_cfg = dict(type='SiLU')
data_preprocessor = dict(type='DetDataPreprocessor', pad_size_divisor=32)
csp_nano = dict(
    backbone=dict(
        type='CSPDarknet',
        deepen_factor=0.33,
        widen_factor=0.25,
        use_depthwise=True,
        out_indices=(2, 3, 4),
        spp_kernal_sizes=(5, 9, 13),
        norm_cfg=norm_cfg,
        act_cfg=act_cfg),
    neck=dict(
        type='YOLOXPAFPN',
        in_channels=[64, 128, 256],
        out_channels=64,
        num_csp_blocks=1,
        use_depthwise=True,
        upsample_cfg=dict(scale_factor=2, mode='nearest'),
        norm_cfg=norm_cfg,
        act_cfg=act_cfg))
# For another detector, in place of its own, with the weights of COCO. A child
# takes it with
#     model = dict(**_base_.trained_csp_nano, ...)
strides = [8, 16, 32]
checkpoint = 'data/weights/yolox_nano_voc20.pth'
trained_csp_nano = dict(
    data_preprocessor=dict(_delete_=True, **data_preprocessor),
    **{
        part:
        dict(
            _delete_=True,
            init_cfg=dict(
                type='Pretrained', prefix=f'{part}.', checkpoint=checkpoint),
            **settings)
        for part, settings in csp_nano.items()
    })
