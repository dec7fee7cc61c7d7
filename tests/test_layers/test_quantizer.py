"""A forward never computes with ternary values of other latent weights than
the present ones, whoever wrote them; in eval a ternary layer is a constant."""
import copy
import threading

import mmengine.optim  # noqa: F401  registers its optimizers
import pytest
import torch
from mmengine.registry import OPTIMIZERS
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from mmtern import Scope, TernConv2d, TernLinear, convert
from mmtern.layers import Quantizer, TernarySettings, project_weight


def of_the_present_weight(layer: nn.Module) -> torch.Tensor:
    """The layer's codes by the literal rule, nothing cached."""
    return project_weight(layer.quantizer.settings, layer.weight)[1]


def changed_by_step(conv):
    conv.weight.grad = torch.randn_like(conv.weight)
    torch.optim.SGD([conv.weight], lr=1.0).step()


def changed_by_loading(conv):
    conv.load_state_dict(TernConv2d(4, 4, 3).state_dict())


def changed_by_assigning(conv):
    conv.load_state_dict(TernConv2d(4, 4, 3).state_dict(), assign=True)


def changed_by_dtype(conv):
    conv.half().float()
    conv.weight.data.neg_()


def changed_in_place(conv):
    with torch.no_grad():
        conv.weight[0].neg_()


def changed_parameter(conv):
    conv.weight = nn.Parameter(torch.randn_like(conv.weight))


def changed_by_data(conv):
    conv.train()
    conv.weight.data.neg_()
    conv.eval()


def changed_data(conv):
    conv.weight.data = torch.randn_like(conv.weight)


def changed_by_set(conv):
    with torch.no_grad():
        conv.weight.set_(torch.randn_like(conv.weight))


def changed_by_swap(conv):
    torch.utils.swap_tensors(conv.weight,
                             nn.Parameter(torch.randn_like(conv.weight)))


def changed_under_inference_mode(conv):
    with torch.inference_mode():
        conv.weight.neg_()


@pytest.mark.parametrize('change', [
    changed_by_step, changed_by_loading, changed_by_assigning,
    changed_by_dtype, changed_in_place, changed_parameter, changed_by_data,
    changed_data, changed_by_set, changed_by_swap, changed_under_inference_mode
])
def test_eval_follows_the_weight(change):
    torch.manual_seed(0)
    conv = TernConv2d(4, 4, 3).eval()
    with torch.no_grad():
        before = conv.ternary_weight.clone()
        assert conv.ternary_weight is conv.ternary_weight
    change(conv)
    fresh = copy.deepcopy(conv)
    assert not torch.equal(before, conv.ternary_weight)
    assert torch.equal(fresh.ternary_weight, conv.ternary_weight)


def test_a_model_built_in_inference_mode_follows_its_weight():
    x = torch.randn(1, 4, 5, 5)
    with torch.inference_mode():
        conv = TernConv2d(4, 4, 3, bias=False).eval()
        before = conv(x)
        conv.weight.mul_(0.5)
        torch.testing.assert_close(conv(x), before * 0.5)


def test_training_by_hand_through_data():
    """Twenty steps of gradient descent that move no version counter."""
    torch.manual_seed(0)
    conv = TernConv2d(8, 8, 3)
    first = conv.codes.clone()
    x = torch.randn(2, 8, 9, 9)
    for _ in range(20):
        conv.weight.grad = None
        conv(x).square().mean().backward()
        conv.weight.data.add_(conv.weight.grad, alpha=-5)
        conv(x)
        assert torch.equal(conv.codes, of_the_present_weight(conv))
    assert (conv.codes != first).float().mean() > 0.1


def every_optimizer():
    """Optimizers of torch and mmengine that can be built on a CPU."""
    needs = dict(SGD=dict(lr=0.1))
    for name, kind in sorted(OPTIMIZERS.module_dict.items()):
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
            yield pytest.param(kind, needs.get(name, {}), id=name)


@pytest.mark.parametrize('kind, options', list(every_optimizer()))
def test_every_registered_optimizer_against_a_twin_without_cache(
        kind, options):
    torch.manual_seed(0)
    cached = nn.Sequential(
        TernConv2d(4, 8, 3), nn.Flatten(), TernLinear(72, 4))
    twin = copy.deepcopy(cached)
    try:
        optimizers = [kind(m.parameters(), **options) for m in (cached, twin)]
    except (ValueError, RuntimeError, TypeError, ImportError) as error:
        pytest.skip(f'cannot be built here: {error}')
    x = torch.randn(6, 4, 5, 5)
    for _ in range(10):
        for model, optimizer in zip((cached, twin), optimizers):

            def closure():
                optimizer.zero_grad()
                for layer in (model[0], model[2]):
                    if model is twin:
                        layer.quantizer.drop_cache()
                loss = model(x).square().mean()
                loss.backward()
                return loss

            try:
                optimizer.step(closure)
            except RuntimeError as error:
                assert 'latent weight' not in str(error)
                pytest.skip(f'does not run here: {error}')
        for one, other in ((cached[0], twin[0]), (cached[2], twin[2])):
            assert torch.equal(one.weight, other.weight)
            assert torch.equal(one.codes, of_the_present_weight(other))


def test_shared_layers_and_accumulation_sum_gradients():
    torch.manual_seed(0)
    conv = TernConv2d(4, 4, 3, padding=1)
    conv.quantizer.temperature = 3.0
    twin = copy.deepcopy(conv)
    batches = [torch.randn(1, 4, 5, 5) for _ in range(3)]
    for x in batches:
        conv(conv(x)).square().sum().backward()
    for x in batches:  # the same gradient, nothing shared
        for layer in (twin, ):
            layer.quantizer.drop_cache()
            layer(layer(x)).square().sum().backward()
    torch.testing.assert_close(conv.weight.grad, twin.weight.grad)


def test_another_weight_by_functional_call_gets_the_gradient():
    conv = TernConv2d(4, 4, 3)
    x = torch.randn(1, 4, 5, 5)
    conv(x)  # fills the cache for the same memory
    other = conv.weight.detach().requires_grad_()
    functional_call(conv, {'weight': other}, x).sum().backward()
    assert other.grad is not None and conv.weight.grad is None
    conv(x).sum().backward()
    assert torch.equal(other.grad, conv.weight.grad)


def test_a_parametrized_weight():

    class Half(nn.Module):

        def forward(self, weight):
            return weight / 2

    torch.manual_seed(0)
    conv = TernConv2d(4, 4, 3, bias=False)
    x = torch.randn(1, 4, 5, 5)
    expected = conv(x) / 2
    parametrize.register_parametrization(conv, 'weight', Half())
    torch.testing.assert_close(conv(x), expected)
    original = conv.parametrizations.weight.original
    conv(x).sum().backward()
    with torch.no_grad():
        original.neg_()
    torch.testing.assert_close(conv(x), -expected)
    assert original.grad is not None


def test_functional_gradients_are_straight_through():
    torch.manual_seed(0)
    conv = TernConv2d(4, 4, 3).eval()
    x = torch.randn(1, 4, 5, 5)
    weight = conv.weight.detach()

    def loss(weight):
        return functional_call(conv, {'weight': weight}, x).square().sum()

    gradient = torch.func.grad(loss)(weight)
    conv(x).square().sum().backward()
    torch.testing.assert_close(gradient, conv.weight.grad)


@pytest.mark.parametrize('beta', [0.0, 0.25, 1.0])
@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(min_sparsity=0.8),
    dict(threshold='exact', scale='lsq'),
    dict(threshold='max', scale='ttq')
])
def test_approach_is_the_proximal_map_in_training_only(beta, kwargs):
    """The minimizer of 1/2 (v - w)^2 + s/2 (v - a t)^2, s = beta / (1 -
    beta), and in eval the ternary weight."""
    torch.manual_seed(0)
    linear = TernLinear(50, 3, ternary=kwargs).double()
    linear.quantizer.beta = beta
    w = linear.weight.detach()
    quantizer = linear.quantizer
    if linear.weight_scale is None:
        ternary = quantizer.codes(w) * quantizer.project(w).scale(
            quantizer.settings.scale)
    else:
        ternary = quantizer.codes(w) * linear.weight_scale[0, :, None]
    expected = (1 - beta) * w + beta * ternary
    used = linear.ternary_weight
    torch.testing.assert_close(used.detach(), expected)
    upstream = torch.randn_like(used)
    used.backward(upstream)
    if linear.weight_scale is None:
        assert torch.equal(linear.weight.grad, upstream)
    else:  # DDP waits for the gradient of every parameter
        assert (beta == 0) == (
            linear.weight_scale.grad is None
            or not linear.weight_scale.grad.any())
        assert linear.weight_scale.grad is not None
    for row in linear.eval().ternary_weight:
        assert len(row.abs().unique()) <= 2


def test_first_requests_from_many_threads():
    """All get the answer of a single thread, and so does who comes later."""
    torch.manual_seed(0)
    model = nn.Sequential(*[TernConv2d(8, 8, 3, padding=1) for _ in range(6)])
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        expected = model.eval()(x)
    for _ in range(25):
        model.train().eval()
        barrier = threading.Barrier(8)
        answers, errors = [], []

        def request(inference):
            mode = torch.inference_mode if inference else torch.no_grad
            barrier.wait()
            try:
                with mode():
                    answers.append(model(x))
            except Exception as error:
                errors.append(error)

        threads = [
            threading.Thread(target=request, args=(i % 2 == 0, ))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert all(torch.equal(answer, expected) for answer in answers)
        with torch.no_grad():
            assert torch.equal(model(x), expected)


def test_modes_share_what_eval_caches():
    conv = TernConv2d(4, 4, 3).eval()
    with torch.no_grad():
        first = conv.ternary_weight
    with torch.inference_mode():
        assert conv.ternary_weight is first
    assert not first.is_inference()


def test_a_meta_device_around_leaves_no_trace():
    conv = TernConv2d(4, 4, 3)
    x = torch.randn(1, 4, 5, 5)
    with torch.device('meta'):
        conv(x).sum().backward()
    assert conv.weight.grad.device.type == 'cpu'
    assert conv(x).device.type == 'cpu'


@pytest.mark.parametrize('gradients', [True, False])
@pytest.mark.parametrize('kwargs', [dict(), dict(min_sparsity=0.8)])
def test_tracers_see_a_constant(gradients, kwargs):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(),
        nn.Linear(64, 4))
    convert(model, Scope(include=['.']), TernarySettings(**kwargs))
    model.eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(model, x, check_trace=False)
        kinds = {node.kind() for node in traced.inlined_graph.nodes()}
        torch.testing.assert_close(traced(x), model(x))
        exported = torch.export.export(model, (x, )).module()
        torch.testing.assert_close(exported(x), model(x))
    assert not kinds & {'aten::div', 'aten::sign', 'prim::PythonOp'}


def test_a_graph_of_a_changed_weight_fails_loudly():
    conv = TernConv2d(4, 4, 3)
    x = torch.randn(1, 4, 5, 5)
    late = conv(x).sum()
    with torch.no_grad():
        conv.weight.mul_(-1)
    with pytest.raises(RuntimeError, match='inplace operation'):
        late.backward()


def test_settings_decide_the_codes():
    weight = torch.tensor([[4.0, -3.0, 1.0, 0.1]])
    assert project_weight(TernarySettings(),
                          weight)[1].tolist() == [[1, -1, 0, 0]]
    sparse = Quantizer(TernarySettings(min_sparsity=0.75))
    assert sparse.codes(weight).tolist() == [[1, 0, 0, 0]]
