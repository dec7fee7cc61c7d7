# RetinaNet with the neck and the head of retinanet_r18-lite.py.
_base_ = ['./retinanet_r18-lite.py', './r50-half.py']
model = dict(**_base_.r50_half, bbox_head=dict(num_classes=20))
