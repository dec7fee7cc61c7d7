# Faster R-CNN with the neck and the heads of faster-rcnn_r18-lite.py.
_base_ = ['./faster-rcnn_r18-lite.py', './r50-half.py']
model = dict(**_base_.r50_half, roi_head=dict(bbox_head=dict(num_classes=20)))
