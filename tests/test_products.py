"""Products by the faster library, and attention between tokens that a layer raised."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from domainemo.backbones import products
from domainemo.backbones.layers import Attention, Raised, TransformerLayer
from domainemo.backbones.products import by_onednn, linear, onednn_faster, product


@pytest.fixture
def multiplied(monkeypatch):
    """A processor on which oneDNN is faster, and the shapes that it was given."""
    found = []

    def plain(left, right, bias):
        if switched.fp32_precision == "bf16":
            found.append((left.shape, right.shape))
        return multiply(left, right, bias)

    # Another processor would multiply in sixteen bits: there nothing is switched.
    switched, multiply = SimpleNamespace(fp32_precision="none"), products._plain
    monkeypatch.setattr(products, "_SWITCH", switched)
    monkeypatch.setattr(products, "onednn_faster", lambda: True)
    monkeypatch.setattr(products, "_plain", plain)
    return found


def with_gradients(function, *tensors):
    """Return what a function makes of tensors, and the gradients of all of them."""
    own = [each.clone().requires_grad_() for each in tensors]
    result = function(*own)
    result.backward(torch.linspace(-1, 1, result.numel()).view(result.shape))
    return [result.detach(), *(each.grad for each in own)]


# ------------------------------------------------------------------------- products

LINEAR = [((2048,), True), ((64, 31), True), ((600, 5), True), ((3, 5, 4, 32), False)]
PRODUCTS = {
    "matrices": ((1200, 128), (128, 96), (96,)),
    "a bias for each value": ((1200, 128), (128, 96), (1200, 96)),
    "of each pair": ((8, 600, 32), (8, 32, 96), (8, 1, 96)),
    "of all pairs": ((8, 600, 32), (8, 32, 96), (96,)),
    "heads": ((4, 8, 150, 32), (4, 8, 32, 90), None),
    "heads with a bias": ((4, 8, 150, 32), (4, 8, 32, 90), (8, 1, 90)),
}


def drawn(*shapes):
    torch.manual_seed(0)
    return [torch.randn(shape) for shape in shapes if shape is not None]


def same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(("leading", "biased"), LINEAR)
def test_a_linear_layer_and_its_gradients_are_torchs(multiplied, leading, biased):
    tensors = drawn((*leading, 96), (192, 96), (192,) if biased else None)
    found = with_gradients(linear, *tensors)
    assert len(multiplied) >= 3  # forwards, and for either gradient
    assert all(each.is_contiguous() for each in found[:1])
    same(found, with_gradients(functional.linear, *tensors))


@pytest.mark.parametrize("shapes", PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_and_its_gradients_are_torchs(multiplied, shapes):
    def plain(left, right, bias=0.0):
        return left @ right + bias

    tensors = drawn(*shapes)
    found = with_gradients(product, *tensors)
    assert len(multiplied) == 3
    same(found, with_gradients(plain, *tensors))


def test_values_that_do_not_lie_in_order(multiplied):
    values, weight = drawn((128, 64, 48), (96, 128))
    inputs = values.permute(1, 2, 0), weight.mT.contiguous().mT
    same(with_gradients(linear, *inputs), with_gradients(functional.linear, *inputs))
    assert len(multiplied) == 3


def test_only_what_is_asked_for_is_computed(multiplied):
    values, weight = drawn((2048, 96), (96, 96))
    weight.requires_grad_()
    linear(values, weight).sum().backward()
    assert len(multiplied) == 2 and weight.grad.shape == weight.shape
    with torch.no_grad():
        assert not linear(values, weight).requires_grad


def test_gradients_of_gradients_are_torchs(multiplied):
    def penalty(layer):
        def of(values, weight):
            found = layer(values, weight).tanh()
            (slope,) = torch.autograd.grad(found.sum(), weight, create_graph=True)
            return slope.square().mean()

        return of

    tensors = [0.1 * each for each in drawn((2048, 96), (96, 96))]
    same(
        with_gradients(penalty(linear), *tensors),
        with_gradients(penalty(functional.linear), *tensors),
    )
    assert multiplied


@pytest.mark.parametrize("case", ["small", "narrow", "double", "stacked"])
def test_what_is_left_to_torch_has_torchs_bits(multiplied, case):
    rows = 100 if case == "small" else 200_000 if case == "narrow" else 2048
    dtype = torch.float64 if case == "double" else torch.float32
    inputs = 7 if case == "narrow" else 64
    values = torch.randn(2, rows, inputs, dtype=dtype)
    weight = torch.randn(2, 64, inputs, dtype=dtype)
    if case == "stacked":
        found, expected = (vmap(f)(values, weight) for f in (linear, functional.linear))
    else:
        found = linear(values[0], weight[0])
        expected = functional.linear(values[0], weight[0])
    assert torch.equal(found, expected) and not multiplied


class Pairs(nn.Module):
    """A matrix of its own for each of four."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 96, 192))

    def forward(self, values):
        return product(values, self.weight)


@pytest.mark.parametrize(
    ("layer", "plain"),
    [(products.Linear(96, 192), functional.linear), (Pairs(), torch.matmul)],
)
def test_what_is_traced_has_torchs_product_for_any_number_of_rows(
    multiplied, layer, plain
):
    rows = torch.export.Dim("rows", min=2)
    few, many = torch.randn(4, 3, 96), torch.randn(4, 2048, 96)
    traced = torch.export.export(layer, (few,), dynamic_shapes=({1: rows},)).module()
    with torch.no_grad():
        assert torch.equal(traced(many), plain(many, *layer.parameters()))
    assert not multiplied


def test_a_bias_added_by_torch_is_added(multiplied):
    left, right, bias = drawn((2, 2, 3, 5), (2, 2, 5, 4), (4,))
    torch.testing.assert_close(product(left, right, bias), left @ right + bias)
    assert not multiplied


def test_the_layer_has_the_state_of_torchs():
    ours, theirs = products.Linear(5, 3), nn.Linear(5, 3)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours(torch.eye(5)), theirs(torch.eye(5)))


@pytest.mark.skipif(not onednn_faster(), reason="oneDNN is not known to be faster here")
@given(
    st.integers(1, 4),
    st.integers(64, 700),
    st.integers(8, 400),
    st.integers(64, 300),
)
def test_where_it_multiplies_products_are_of_single_precision(pairs, rows, inner, many):
    """The bound of any order of summing, and a thousandth of what sixteen bits lose."""
    left, right = drawn((pairs, rows, inner), (pairs, inner, many))
    with by_onednn():
        found = left @ right
    exact = left.double() @ right.double()
    most = left.double().abs() @ right.double().abs()
    assert ((found - exact).abs() <= inner * 2**-24 * most).all()


def test_the_switch_is_as_it_was_whatever_happens(multiplied):
    switch = products._SWITCH
    before = switch.fp32_precision
    with pytest.raises(ZeroDivisionError), by_onednn():
        assert switch.fp32_precision == "bf16" != before
        _ = 1 / 0
    assert switch.fp32_precision == before


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
@pytest.mark.parametrize("precise", [True, False])
def test_processors_that_multiply_faster(
    monkeypatch, capability, told, expected, precise
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "_processor", lambda: told)
    monkeypatch.setattr(products, "_in_single_precision", lambda: precise)
    monkeypatch.setattr(products, "_SWITCH", SimpleNamespace())
    onednn_faster.cache_clear()
    try:
        assert onednn_faster() is (expected and precise)
    finally:
        onednn_faster.cache_clear()


def test_a_product_of_sixteen_bits_is_told_from_one_of_32(multiplied, monkeypatch):
    assert products._in_single_precision()

    def rounded(left, right):
        return torch.matmul(left.bfloat16(), right.bfloat16()).float()

    monkeypatch.setattr(Tensor, "__matmul__", rounded, raising=False)
    assert not products._in_single_precision()


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
    return Raised.by(layer, values)


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
