# Ternary RetinaNet-R50 in stages, in epochs: first the backbone, then the
# neck, last the head, so that each part settles on ternary features.
_base_ = './tern_retinanet_r50.py'
default_hooks = dict(ternary=dict(begin=dict(backbone=0, neck=2, bbox_head=4)))
