# Four of five weights zero: a file 31 times smaller.
_base_ = './tern_faster_rcnn_r50.py'

model = dict(ternary=dict(model_sparsity=0.8))
