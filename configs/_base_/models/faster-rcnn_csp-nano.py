# Faster R-CNN with the heads of faster-rcnn_r18-lite.py on YOLOX-Nano's three
# levels; two anchor sizes each stand for the levels above and below, and half
# as many regions are enough for small images.
_base_ = ['./faster-rcnn_r18-lite.py', './csp-nano.py']
model = dict(
    **_base_.trained_csp_nano,
    rpn_head=dict(
        anchor_generator=dict(scales=[4, 8], strides=_base_.strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=_base_.strides),
        bbox_head=dict(num_classes=20)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))))
