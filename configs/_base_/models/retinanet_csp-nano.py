# RetinaNet with the head of retinanet_r18-lite.py on YOLOX-Nano's three
# levels.
_base_ = ['./retinanet_r18-lite.py', './csp-nano.py']
model = dict(
    **_base_.trained_csp_nano,
    bbox_head=dict(
        num_classes=20, anchor_generator=dict(strides=_base_.strides)))
