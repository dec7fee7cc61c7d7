"""Forms of the method from the literature, tried as changes to mmtern."""
import math

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmtern.convert import ternary_layers
from mmtern.engine.distributed import unwrapped
from mmtern.ops import float_rows, rows_of


def layers_of(runner):
    return list({id(x.latent): x
                 for x in ternary_layers(unwrapped(runner.model)).values()
                 }.values())


def share(runner, begin):
    first = round(begin * runner.max_iters)
    return (runner.iter - first) / max(runner.max_iters - 1 - first, 1)


@HOOKS.register_module()
class LatePullHook(Hook):
    """After each step of the last fifth, w <- w - rho (w - a t), rho growing
    linearly (CAGE, arXiv 2510.18784; dampening)."""

    def __init__(self, rate=0.02, begin=0.8):
        self.rate, self.begin = rate, begin

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        done = share(runner, self.begin)
        if done < 0:
            return
        with torch.no_grad():
            for layer in layers_of(runner):
                w = layer.latent
                entry = layer.quantizer._new_entry(w.detach(), True, ())
                values = layer.quantizer._blend(entry, w, 1.0, False)
                w.lerp_(values, self.rate * done)


@HOOKS.register_module()
class FixedCodesHook(Hook):
    """The last epoch trains norms, biases and float layers only."""

    def __init__(self, begin=0.75):
        self.begin = begin

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if share(runner, self.begin) >= 0:
            for layer in layers_of(runner):
                layer.latent.requires_grad_(False)
                layer.latent.grad = None

    def before_save_checkpoint(self, runner, checkpoint):
        pass


class _PullHook(Hook):
    """A loss added to the detector's, as TernaryRegularizerHook adds its."""

    def __init__(self, loss_weight, end=0.5):
        self.loss_weight, self.end = loss_weight, end

    def before_train(self, runner):
        self.runner = runner
        self.layers = layers_of(runner)
        model = unwrapped(runner.model)
        self.loss = None
        self.handles = [
            model.register_forward_pre_hook(self.measure, with_kwargs=True),
            model.register_forward_hook(self.add, with_kwargs=True)]

    def after_train(self, runner):
        for handle in self.handles:
            handle.remove()

    def measure(self, model, args, kwargs):
        self.loss = None
        mode = kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
        done = self.runner.iter / (self.end * self.runner.max_iters)
        if mode != 'loss' or done >= 1:
            if mode == 'loss':
                self.loss = torch.zeros(())
            return
        self.loss = sum(map(self.one, self.layers)) * self.loss_weight * done

    def add(self, model, args, kwargs, output):
        loss, self.loss = self.loss, None
        return output if loss is None else dict(output, loss_ternary=loss)


@HOOKS.register_module()
class UndecidedFreeHook(_PullHook):
    """The cosine pull, its gradient times 1 - h: undecided weights are left to
    the detector."""

    temperature = 4.0

    def one(self, layer):
        w = layer.latent
        rows = rows_of(w)
        p = layer.quantizer.project(w, True)
        with torch.no_grad():
            mag = rows.abs()
            t = torch.where(mag >= p.threshold, rows.sign(), 0.0)
            norm = rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
            tn = t.norm(dim=1, keepdim=True).clamp_min(1)
            cos = (rows * t).sum(1, keepdim=True) / norm / tn
            grad = -(t / tn - cos * rows / norm) / norm
            s = torch.sigmoid(self.temperature * (
                mag / p.threshold.clamp_min(1e-12) - 1))
            grad *= 1 - 4 * s * (1 - s)
            value = (1 - cos).sum()
        linear = (rows * grad).sum()
        return linear - linear.detach() + value


@HOOKS.register_module()
class LotionHook(_PullHook):
    """1/2 g (hi - |w|)(|w| - lo), g the running mean of the squared gradient
    (LOTION, arXiv 2510.08757)."""

    def before_train(self, runner):
        super().before_train(runner)
        self.second = {id(x.latent): torch.zeros_like(x.latent)
                       for x in self.layers}
        self.steps = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        self.steps += 1
        for layer in self.layers:
            if layer.latent.grad is not None:
                self.second[id(layer.latent)].lerp_(
                    layer.latent.grad.square(), 0.01)

    def one(self, layer):
        w = layer.latent
        rows = rows_of(w)
        a = layer.quantizer._entry_of(w, True).scale
        g = rows_of(self.second[id(w)]) / (1 - 0.99**max(self.steps, 1))
        mag = rows.abs()
        inside = (a - mag).clamp_min(0) * mag
        return 0.5 * (g * inside).sum()


@HOOKS.register_module()
class FormHook(Hook):
    """Another form of the weights on the way to ternary ones."""

    def __init__(self, form, begin=0.5):
        self.form, self.begin = form, begin

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        done = min(runner.iter / (self.begin * runner.max_iters), 1.0)
        for layer in layers_of(runner):
            q = layer.quantizer
            q.form = self.form
            q.residual = 0.0
            if self.form == 'arenas':
                q.residual = math.cos(math.pi / 2 * done) if done < 1 else 0.0
            elif self.form == 'square':
                q.beta = done**2
            elif self.form == 'root':
                q.beta = done**0.5
            elif self.form == 'smooth':
                q.beta = done * done * (3 - 2 * done)
            elif self.form == 'parq':
                steep = 10.0
                f = lambda x: 1 / (1 + math.exp(-steep * (x - 0.5)))
                q.beta = (f(done) - f(0)) / (f(1) - f(0)) if done < 1 else 1.0

    def after_train(self, runner):
        for layer in layers_of(runner):
            layer.quantizer.form, layer.quantizer.residual = None, 0.0


@HOOKS.register_module()
class LossAwareHook(Hook):
    """Projects by the distance weighted with the root of the gradient's
    second moment (LAT, ICLR 2018). At the end the latent weights become their
    ternary ones, which any projection keeps."""

    def before_train(self, runner):
        self.layers = layers_of(runner)
        self.second = {id(x.latent): torch.zeros_like(x.latent)
                       for x in self.layers}

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        for layer in self.layers:
            w = layer.latent
            if w.grad is not None:
                self.second[id(w)].lerp_(w.grad.square(), 0.01)
                layer.quantizer.importance = rows_of(
                    self.second[id(w)]).sqrt()
        if runner.iter + 1 == runner.max_iters:
            with torch.no_grad():
                for layer in self.layers:
                    w, q = layer.latent, layer.quantizer
                    entry = q._new_entry(w.detach(), True, ())
                    w.copy_(q._blend(entry, w, 1.0, False))
                    q.importance = None
