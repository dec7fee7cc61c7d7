"""Attention computes with ternary projections, whichever way PyTorch
takes."""
import copy
import math

import pytest
import torch
from torch import nn

from mmtern import Scope, convert, ternary_layers
from mmtern.layers import TernMultiheadAttention
from tests.literal import literal_ternary

N, L, S, E, HEADS = 3, 5, 7, 8, 2


def attention(**options):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(E, HEADS, **options).double()
    with torch.no_grad():
        layer.in_proj_bias.normal_()
        layer.out_proj.bias.normal_()
    return layer


def literal(plain, query, key, value, weights, blocked=None):
    """softmax(Q K^T / sqrt(d)) V of each image and head, batch first."""
    in_proj, out_proj = weights
    q, k, v = (x @ w.T + b for x, w, b in zip((
        query, key, value), in_proj.chunk(3), plain.in_proj_bias.chunk(3)))
    size, images = E // HEADS, []
    for n in range(len(q)):
        heads = []
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            scores = q[n, :, part] @ k[n, :, part].T / math.sqrt(size)
            if blocked is not None:
                scores = scores.masked_fill(blocked[n], float('-inf'))
            heads.append(scores.softmax(-1) @ v[n, :, part])
        images.append(torch.cat(heads, -1) @ out_proj.T + plain.out_proj.bias)
    return torch.stack(images)


def inputs(same=False):
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(N, L, E, generator=generator).double()
    if same:
        return query, query, query
    key, value = (
        torch.randn(N, S, E, generator=generator).double() for _ in range(2))
    return query, key, value


def ternary(plain):
    weights = plain.in_proj_weight, plain.out_proj.weight
    return [literal_ternary(w.detach()).requires_grad_() for w in weights]


def masks(kind, length):
    """Arguments of the layer, and what they block, (N, L, length)."""
    blocked = torch.zeros(N, L, length, dtype=torch.bool)
    if kind == 'none':
        return {}, blocked
    if kind == 'padding':
        padding = torch.zeros(N, length, dtype=torch.bool)
        padding[0, -2:] = padding[2, -1:] = True
        return dict(key_padding_mask=padding), blocked | padding[:, None]
    causal = torch.ones(L, length, dtype=torch.bool).triu(1)
    return dict(attn_mask=causal), blocked | causal


@pytest.mark.parametrize('batch_first', [True, False])
@pytest.mark.parametrize('kind', ['none', 'padding', 'causal'])
@pytest.mark.parametrize('same', [True, False])
@pytest.mark.parametrize('training', [True, False])
def test_forward_and_gradient(batch_first, kind, same, training):
    plain = attention(batch_first=batch_first)
    twin = copy.deepcopy(plain)
    convert(twin)
    assert type(twin) is TernMultiheadAttention
    twin.train(training)
    weights, x = ternary(plain), inputs(same)
    given, blocked = masks(kind, L if same else S)
    expected = literal(plain, *x, weights, blocked)
    fed = x if batch_first else [y.transpose(0, 1) for y in x]
    if same:
        fed = [fed[0]] * 3
    out = twin(*fed, **given)[0]
    out = out if batch_first else out.transpose(0, 1)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    grads = twin.in_proj_weight.grad, twin.out_proj.weight.grad
    for grad, weight in zip(grads, weights):
        torch.testing.assert_close(grad, weight.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        twin.in_proj_bias.grad, plain.in_proj_bias.grad, rtol=1e-5, atol=1e-5)
    # In inference PyTorch takes its fused way.
    with torch.no_grad():
        again = twin.eval()(*fed, **given)[0]
    again = again if batch_first else again.transpose(0, 1)
    torch.testing.assert_close(again, expected.detach(), rtol=1e-5, atol=1e-6)


def test_the_fused_way_is_taken_and_ternary():
    plain = attention(batch_first=True)
    twin = copy.deepcopy(plain)
    convert(twin)
    x, = set(inputs(same=True))
    with torch.profiler.profile() as profile, torch.no_grad():
        out = twin.eval()(x, x, x)[0]
    names = {event.name for event in profile.events()}
    assert 'aten::_native_multi_head_attention' in names
    expected = literal(plain, x, x, x, ternary(plain))
    torch.testing.assert_close(out, expected.detach(), rtol=1e-5, atol=1e-6)


def test_keys_and_float_checkpoints():
    plain = attention()
    twin = attention()
    convert(twin)
    assert list(twin.state_dict()) == list(plain.state_dict())
    twin.load_state_dict(plain.state_dict())
    assert list(ternary_layers(nn.ModuleDict(
        dict(attn=twin)))) == ['attn', 'attn.out_proj']


def test_an_excluded_output_stays_float():
    plain = attention(batch_first=True)
    twin = copy.deepcopy(plain)
    report = convert(nn.ModuleDict(dict(attn=twin)), Scope(exclude=['out_pr']))
    assert [x.name for x in report.ternary] == ['attn']
    x = inputs()
    weights = ternary(plain)[0], plain.out_proj.weight
    torch.testing.assert_close(
        twin(*x)[0], literal(plain, *x, weights), rtol=1e-5, atol=1e-6)


def left(model, scope=None):
    return {x.name: x.reason for x in convert(model, scope).left}


def test_an_output_is_not_ternary_without_its_attention():
    model = nn.ModuleDict(dict(attn=attention(), conv=nn.Conv2d(8, 8, 1)))
    assert left(model, Scope(exclude=['attn$'])) == {
        'attn': 'excluded',
        'attn.out_proj': 'excluded'
    }
    # Other kinds of attention compute with the weight in their own way.
    apart = nn.MultiheadAttention(E, HEADS, kdim=4, vdim=6)
    model = nn.ModuleDict(dict(attn=apart, conv=nn.Conv2d(8, 8, 1)))
    assert left(model) == {
        'attn.q_proj_weight': 'MultiheadAttention.q_proj_weight',
        'attn.k_proj_weight': 'MultiheadAttention.k_proj_weight',
        'attn.v_proj_weight': 'MultiheadAttention.v_proj_weight',
        'attn.out_proj': 'read by MultiheadAttention',
    }

    class Other(nn.MultiheadAttention):
        pass

    model = nn.ModuleDict(dict(attn=Other(E, HEADS), conv=nn.Conv2d(8, 8, 1)))
    assert left(model) == {
        'attn.in_proj_weight': 'Other.in_proj_weight',
        'attn.out_proj': 'read by Other',
    }


def test_an_output_alone_is_left():
    with pytest.raises(ValueError, match='no layer.*is left'):
        convert(attention().out_proj)


@pytest.mark.parametrize('count', [0, 2])
def test_encoder_layers_of_torch_are_not_fused_past_their_weights(count):
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(E, HEADS, 16, batch_first=True)
    if count:
        model = nn.TransformerEncoder(model, count)
    convert(model)
    model.eval()
    x = torch.randn(N, L, E)
    with torch.no_grad():
        fused = model(x)
    # With gradients PyTorch calls every part.
    torch.testing.assert_close(fused, model(x).detach())
