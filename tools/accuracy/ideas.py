"""A form of the regularizer from the literature, tried as a change to
mmtern."""
import torch
from mmengine.registry import HOOKS

from mmtern import TernaryRegularizerHook


@HOOKS.register_module()
class LotionHook(TernaryRegularizerHook):
    """Adds LOTION's ``1/2 sum g (a - |w|) |w|`` over the weights between two
    levels (arXiv 2510.08757): what rounding by chance would add to the loss,
    with AdamW's second moment for the diagonal of the Hessian. A gradient of
    a batch's mean has 1/16 of an image's variance, so a ``loss_weight`` of 16
    is the form as it stands."""

    def _measure(self, model, args, kwargs):
        strength = self.strength(self._runner)
        self._loss = None
        mode = kwargs.get('mode', args[2] if len(args) > 2 else None)
        if mode != 'loss' or strength == 0 or not torch.is_grad_enabled():
            return
        optimizer = self._runner.optim_wrapper.optimizer
        decay = optimizer.param_groups[0]['betas'][1]
        total = 0
        for layer in {id(x.latent): x for x in self._layers.values()}.values():
            state = optimizer.state.get(layer.latent)
            if not state:  # the first step
                self._loss = torch.zeros(())
                return
            moment = state['exp_avg_sq'] / (1 - decay**float(state['step']))
            size = layer.filters(layer.latent).flatten(1).abs()
            scale = layer.projection.norm_scale.detach()
            moment = layer.filters(moment).flatten(1)
            total = total + (moment * (scale - size).clamp_min(0) * size).sum()
        self._loss = total * (strength / 2)
