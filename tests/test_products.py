"""Linear layers as convolutions, and attention between tokens that a layer raised."""

import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from domainemo.backbones import products
from domainemo.backbones.layers import Attention, Raised, TransformerLayer
from domainemo.backbones.products import convolves_faster, linear


@pytest.fixture
def convolving(monkeypatch):
    """A processor on which convolutions are faster, and the sizes that were one."""
    found = []

    def conv2d(image, *others):
        found.append(tuple(image.shape))
        return convolve(image, *others)

    convolve = functional.conv2d
    monkeypatch.setattr(products, "convolves_faster", lambda: True)
    monkeypatch.setattr(products.functional, "conv2d", conv2d)
    return found


def with_gradients(function, *tensors):
    """Return what a function makes of tensors, and the gradients of all of them."""
    given = [each.clone().requires_grad_() for each in tensors]
    result = function(*given)
    result.backward(torch.linspace(-1, 1, result.numel()).view(result.shape))
    return [result.detach(), *(each.grad for each in given)]


# ------------------------------------------------------------------------- products


@pytest.mark.parametrize("shape", [(1024,), (64, 31), (17, 61), (3, 5, 4, 32)])
@pytest.mark.parametrize("biased", [True, False])
def test_a_convolution_is_the_linear_layer(convolving, shape, biased):
    torch.manual_seed(0)
    given = [torch.randn(*shape, 64), torch.randn(96, 64), torch.randn(96)]
    given = given if biased else given[:2]
    found = with_gradients(linear, *given)
    assert len(convolving) == 1
    for ours, theirs in zip(
        found, with_gradients(functional.linear, *given), strict=True
    ):
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_a_transposed_weight_and_scattered_rows(convolving):
    torch.manual_seed(0)
    values, weight = torch.randn(64, 64, 32).mT, torch.randn(64, 128).mT
    found = with_gradients(linear, values, weight)
    assert convolving
    for ours, theirs in zip(
        found, with_gradients(functional.linear, values, weight), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "case", ["few rows", "prime rows", "narrow", "double", "stacked"]
)
def test_what_is_left_to_torch_has_torchs_bits(convolving, case):
    rows = {"few rows": 1023, "prime rows": 1031}.get(case, 2048)
    dtype = torch.float64 if case == "double" else torch.float32
    inputs = 63 if case == "narrow" else 64
    values = torch.randn(2, rows, inputs, dtype=dtype)
    weight = torch.randn(2, 64, inputs, dtype=dtype)
    if case == "stacked":
        found, expected = (vmap(f)(values, weight) for f in (linear, functional.linear))
    else:
        found = linear(values[0], weight[0])
        expected = functional.linear(values[0], weight[0])
    assert torch.equal(found, expected) and not convolving


@pytest.mark.parametrize(
    ("capability", "told", "expected"),
    [
        ("AVX512", "vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t: 2", True),
        ("AVX512", "AMD64 Family 26 Model 2 Stepping 1, AuthenticAMD", True),
        ("AVX512", "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t: 97", False),
        ("AVX512", "vendor_id\t: AuthenticAMD", False),
        ("AVX512", "vendor_id\t: GenuineIntel\ncpu family\t: 26", False),
        ("AVX2", "vendor_id\t: AuthenticAMD\ncpu family\t: 26", False),
        ("DEFAULT", "", False),
    ],
)
def test_processors_that_convolve_faster(monkeypatch, capability, told, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "_processor", lambda: told)
    convolves_faster.cache_clear()
    try:
        assert convolves_faster() is expected
    finally:
        convolves_faster.cache_clear()


# ------------------------------------------------------------------------ attention


def raised(features=5, width=64, heads=2, *, tokens=7, dropout=0.0):
    """Return an attention, two layers that raise, and their values; in double."""
    torch.manual_seed(0)
    parts = (
        Attention(width, heads, dropout=dropout).double(),
        nn.Linear(features, width).double(),
        nn.Linear(features + 1, width).double(),
    )
    with torch.no_grad():
        for each in parts[0].parameters():
            each.add_(0.3 * torch.randn_like(each))
    here = torch.randn(3, tokens, features, dtype=torch.float64)
    there = torch.randn(3, tokens + 2, features + 1, dtype=torch.float64)
    return parts, here, there


def by(layer, values):
    return Raised.by(layer, values, functional.linear)


def test_attention_between_raised_tokens_is_torchs_with_its_gradients():
    (attention, up, other), here, there = raised()
    theirs = nn.MultiheadAttention(64, 2, batch_first=True).double()
    theirs.load_state_dict(attention.state_dict())
    found = attention.between(by(up, here), by(other, there))
    expected, _ = theirs(up(here), other(there), other(there))
    torch.testing.assert_close(found, expected)
    goal = torch.randn_like(found)
    layers = [*up.parameters(), *other.parameters()]
    ours = torch.autograd.grad((found * goal).sum(), [*attention.parameters(), *layers])
    wanted = torch.autograd.grad(
        (expected * goal).sum(), [*theirs.parameters(), *layers]
    )
    for one, another in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, another)


def test_dropped_shares_are_dropped_between_raised_tokens(monkeypatch):
    (attention, up, other), here, there = raised(dropout=0.4)
    kept = (torch.rand(3, 7, 2, 9, dtype=torch.float64) > 0.4) / 0.6
    monkeypatch.setattr(
        attention.dropout, "forward", lambda shares: shares * kept.flatten(1, 2)
    )
    found = attention.between(by(up, here), by(other, there))
    asked, key, value = attention.in_proj_weight.chunk(3)
    ask, tell, give = attention.in_proj_bias.chunk(3)
    query, memory = up(here), other(there)
    for sample in range(3):
        heard = []
        for head in (slice(0, 32), slice(32, 64)):
            queries = query[sample] @ asked[head].T + ask[head]
            keys = memory[sample] @ key[head].T + tell[head]
            shares = (queries @ keys.T / 32**0.5).softmax(-1)
            shares = shares * kept[sample, :, head.start // 32]
            heard.append(shares @ (memory[sample] @ value[head].T + give[head]))
        expected = attention.out_proj(torch.cat(heard, -1))
        torch.testing.assert_close(found[sample], expected)


@pytest.mark.parametrize("width", [32, 64])
def test_a_layer_of_raised_tokens_is_the_layer_of_the_tokens(width):
    torch.manual_seed(0)
    layer = TransformerLayer(width, 2, 2 * width, dropout=0.0).double()
    up, values = nn.Linear(5, width).double(), torch.randn(3, 7, 5).double()
    torch.testing.assert_close(layer(by(up, values)), layer(up(values)))


@pytest.mark.parametrize(
    ("width", "features", "fewer"), [(64, 5, True), (64, 40, False), (32, 5, False)]
)
def test_operations_are_spared_where_values_are_short(width, features, fewer):
    (attention, up, other), here, there = raised(features, width, tokens=40)
    query, memory = by(up, here), by(other, there)
    counted = []
    for attend in (
        lambda: attention.between(query, memory),
        lambda: attention(query.tokens, memory.tokens),
    ):
        with FlopCounterMode(display=False) as counter:
            attend()
        counted.append(counter.get_total_flops())
    assert counted[0] < 0.7 * counted[1] if fewer else counted[0] == counted[1]
