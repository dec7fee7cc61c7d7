# The recipe for fine-tuning a trained ResNet detector with the SGD schedules
# of mmdet (1x, VOC): what a ternary network needs otherwise than its float
# twin. A child takes what its base has a place for:
#     model = dict(..., backbone=_base_.ternary_backbone)
#     optim_wrapper = _base_.ternary_optim_wrapper
#     optim_wrapper.optimizer.lr = _base_.optim_wrapper.optimizer.lr / 2
#     default_hooks = _base_.ternary_hooks
_base_ = './ternary.py'
# A frozen stage could not adapt to its ternary weights, nor frozen statistics
# to what these put out; load_from replaces the backbone's own checkpoint.
ternary_backbone = dict(frozen_stages=-1, norm_eval=False, init_cfg=None)
# No decay: shrinking latent weights does nothing to a filter's direction but
# brings its weights nearer to their threshold.
ternary_optim_wrapper = dict(
    optimizer=dict(weight_decay=0.0), clip_grad=dict(max_norm=10, norm_type=2))
# Statistics over all GPUs: two images are too few. Without effect on one.
sync_bn = 'torch'
