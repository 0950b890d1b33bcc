"""The reference networks and canonical correlation against loops, torch and numpy."""

import math

import networks
import numpy as np
import pytest
import torch
from networks import DOUBLE, OF_BILSTM, batch_for, build, measures, pair
from sklearn.cross_decomposition import CCA
from torch import nn
from torch.func import grad, vmap

from domainemo.adapters.canonical_correlation import (
    CanonicalCorrelation,
    canonical_correlations,
)
from domainemo.backbones.bilstm_attention import (
    AdditiveAttention,
    BidirectionalLSTM,
    BiLSTMAttention,
)
from domainemo.backbones.concatenation import Concatenation
from domainemo.backbones.deep_cca import DeepCCA
from domainemo.backbones.regions import ELECTRODES
from domainemo.cli.configuration import configure
from domainemo.core import FUSION, Modality, Outputs, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.samplings.sequences import Sequences
from domainemo.samplings.trials import Trials
from domainemo.samplings.windows import Windows
from domainemo.testing import checks

torch.set_num_threads(1)
NETWORKS = {
    "concatenation-mlp": Concatenation,
    "bilstm-attention": BiLSTMAttention,
    "deep-cca": DeepCCA,
}
PAIR = pair()
EVERY = [(cls, case) for cls in NETWORKS.values() for case in networks.NETWORKS[cls]]
every_case = pytest.mark.parametrize(
    ("cls", "case"), EVERY, ids=[f"{cls.__name__}, {case}" for cls, case in EVERY]
)


# -------------------------------------------------------------------------- contract


@pytest.mark.parametrize(
    "options", [{"relative": False}, {"components": 2, "on_target": False}]
)
def test_shipped_checks_of_the_adapter(options):
    slow = ("trains", "firewall")
    for check in checks(CanonicalCorrelation, options=options, skip=slow):
        check()


@pytest.mark.parametrize(
    ("name", "size", "sampling"),
    [
        ("concatenation-mlp", 77_184, Windows),
        ("bilstm-attention", 267_136, Sequences),
        ("deep-cca", 53_784, Windows),
    ],
)
def test_names_sizes_and_samplings(name, size, sampling):
    assert find("backbone", name) is NETWORKS[name]
    cap = Modality(ELECTRODES, tuple("abcde"), "eeg")
    model = NETWORKS[name]({"eeg": cap, "eye": measures(33)})
    assert sum(parameter.numel() for parameter in model.parameters()) == size
    assert isinstance(model.sampling, sampling)
    assert getattr(model.sampling, "length", 8) == 8
    whole = Trials()
    assert NETWORKS[name](PAIR, sampling=whole).sampling is whole


@pytest.mark.parametrize("cls", NETWORKS.values())
def test_unfit_options_are_explained(cls):
    with pytest.raises(ConfigurationError, match=r"found none.*--modalities"):
        cls({})
    for options, words in (
        ({"width": 0}, r"width is .*; expected at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0; expected at least 0"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            cls(PAIR, **options)


def test_options_of_one_network_are_explained():
    for build_it, words in (
        (
            lambda: Concatenation(PAIR, hidden=(8, 0)),
            r"hidden is .*; expected at least 1",
        ),
        (
            lambda: Concatenation(PAIR, fusion_width=0),
            r"fusion_width is .*; expected at least 1",
        ),
        (lambda: BiLSTMAttention(PAIR, layers=0), r"layers is .*; expected at least 1"),
        (lambda: DeepCCA(PAIR, activation="tanh"), "expected one of 'relu', 'sigmoid'"),
        (lambda: DeepCCA(PAIR, fusion="sum"), "expected one of 'attention', 'weighted"),
        (lambda: CanonicalCorrelation(regularisation=0), "regularisation is 0"),
        (lambda: CanonicalCorrelation(minimum=1), "minimum is 1"),
        (lambda: CanonicalCorrelation(components=0), "components is 0"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            build_it()


def test_the_shipped_configuration():
    described = configure({}, [], "deep-cca").describe()
    assert described["backbone"] == "deep-cca"
    assert described["adapter"] == "canonical-correlation"
    expected = {"adapter.weight": 0.1, "adapter.relative": False}
    expected |= {"training.epochs": 80, "training.batch_size": 30}
    assert expected.items() <= described["options"].items()


# ----------------------------------------------------------------------- invariances


@every_case
def test_gaps_change_nothing(cls, case):
    """A sample with gaps is the sample without them, in every modality by itself."""
    model, modalities = build(cls, case)
    signals, masks = batch_for(modalities, time=7)
    for number, name in enumerate(modalities):
        masks[name][:, (number + torch.arange(3)) % 7] = False
    found = model(signals, masks)
    for name in modalities:
        for i in range(4):
            kept = masks[name][i]
            if not kept.any():
                assert not found[name][i].any()
                continue
            cut = {n: s[i : i + 1, kept] for n, s in signals.items()}
            there = {n: torch.ones(1, int(kept.sum())).bool() for n in modalities}
            expected = model(cut, there)[name]
            torch.testing.assert_close(found[name][i : i + 1], expected)


@pytest.mark.parametrize(
    ("cls", "case"),
    [(BiLSTMAttention, "five"), (DeepCCA, "five"), (DeepCCA, "sum")],
)
def test_a_missing_modality_has_no_weight_in_the_fusion(cls, case):
    model, modalities = build(cls, case)
    signals, masks = batch_for(modalities)
    only = {n: m & (n == "eye") for n, m in masks.items()}
    found = model(signals, only)
    torch.testing.assert_close(found[FUSION], found["eye"])
    nothing = model(signals, {n: m & False for n, m in masks.items()})
    assert not nothing[FUSION].any()


# -------------------------------------------------------------------- explicit loops


def by_name(modality):
    return sorted(range(len(modality.channels)), key=modality.channels.__getitem__)


def slow_perceptron(layers, signal, mask, modality, activation):
    """One sample of one modality through a perceptron, in numpy."""
    windows = [w.numpy()[by_name(modality)].ravel() for w in signal[mask]]
    value = sum(windows) / len(windows)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        value = np.array([row @ value + b for row, b in zip(weight, bias, strict=True)])
        if number + 1 < len(linear):
            value = activation(value)
    return value


def relu(value):
    return np.maximum(value, 0)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


@pytest.mark.parametrize("case", ["whole", "five"])
def test_concatenation_equals_a_loop(case):
    model, modalities = build(Concatenation, case)
    signals, masks = batch_for(modalities)
    found = model(signals, masks)
    last = model.fusion[2]
    for i in range(4):
        joined = []
        for name, modality in modalities.items():
            layers = model.encoders[name].layers
            own = slow_perceptron(
                layers, signals[name][i], masks[name][i], modality, relu
            )
            assert np.allclose(found[name][i].detach(), own)
            joined.extend(relu(own))
        fused = last.weight.detach().numpy() @ joined + last.bias.detach().numpy()
        assert np.allclose(found[FUSION][i].detach(), relu(fused))


@pytest.mark.parametrize(
    ("case", "activation"),
    [("whole", sigmoid), ("five", relu), ("sum", sigmoid)],
)
def test_deep_cca_equals_a_loop(case, activation):
    model, modalities = build(DeepCCA, case)
    signals, masks = batch_for(modalities)
    found = model(signals, masks)
    for i in range(4):
        scores, branches = [], []
        for name, modality in modalities.items():
            layers = model.encoders[name].layers
            own = slow_perceptron(
                layers, signals[name][i], masks[name][i], modality, activation
            )
            assert np.allclose(found[name][i].detach(), own)
            branches.append(own)
            scores.append(
                0.0
                if model.attention is None
                else math.exp(own @ model.attention.detach().numpy())
            )
        if model.attention is None:
            scores = [1.0] * len(branches)
        shares = [score / sum(scores) for score in scores]
        fused = sum(share * own for share, own in zip(shares, branches, strict=True))
        assert np.allclose(found[FUSION][i].detach(), fused)
    assert isinstance(model.head(FUSION, 12, 3), nn.Linear)


def torch_lstm(ours, inputs):
    """Return torch's LSTM with the same weights."""
    theirs = nn.LSTM(inputs, ours.width, batch_first=True, bidirectional=True)
    theirs = theirs.to(DOUBLE)
    with torch.no_grad():
        for number, suffix in enumerate(("l0", "l0_reverse")):
            getattr(theirs, f"weight_ih_{suffix}").copy_(ours.input_weight[number].T)
            getattr(theirs, f"weight_hh_{suffix}").copy_(ours.state_weight[number].T)
            getattr(theirs, f"bias_ih_{suffix}").copy_(ours.bias[number, 0])
            getattr(theirs, f"bias_hh_{suffix}").zero_()
    return theirs


def test_the_lstm_is_torchs_with_its_gradients():
    torch.manual_seed(0)
    ours = BidirectionalLSTM(5, 4).to(DOUBLE)
    theirs = torch_lstm(ours, 5)
    values = torch.randn(3, 7, 5, dtype=DOUBLE, requires_grad=True)
    there = torch.ones(3, 7).bool()
    found = torch.stack(ours(values.unbind(1), there.unbind(1)), 1)
    expected, _ = theirs(values)
    torch.testing.assert_close(found, expected)
    target = torch.randn_like(expected)
    own = torch.autograd.grad((found * target).sum(), [values, ours.input_weight])
    other = torch.autograd.grad(
        (expected * target).sum(),
        [values, theirs.weight_ih_l0, theirs.weight_ih_l0_reverse],
    )
    torch.testing.assert_close(own[0], other[0])
    torch.testing.assert_close(own[1], torch.stack([other[1].T, other[2].T]))


def test_initial_weights_are_drawn_as_torch_draws_them():
    torch.manual_seed(0)
    ours, theirs = BidirectionalLSTM(30, 25), nn.LSTM(30, 25, bidirectional=True)
    for parameters in (ours.parameters(), theirs.parameters()):
        for weight in parameters:
            assert float(weight.detach().abs().max()) == pytest.approx(0.2, rel=0.1)


def test_the_states_of_an_lstm_rest_in_gaps():
    """Against torch's LSTM on each sample with its gaps cut out."""
    torch.manual_seed(1)
    ours = BidirectionalLSTM(5, 4).to(DOUBLE)
    theirs = torch_lstm(ours, 5)
    values, there = torch.randn(6, 8, 5, dtype=DOUBLE), torch.rand(6, 8) < 0.6
    there[0], there[1], there[2, -3:] = True, False, False
    found = torch.stack(ours(values.unbind(1), there.unbind(1)), 1)
    for sample, kept, states in zip(values, there, found, strict=True):
        if not kept.any():
            assert not states.any()
            continue
        torch.testing.assert_close(states[kept], theirs(sample[kept])[0])
        forwards, backwards = states.split(4, -1)
        for t in torch.nonzero(~kept)[:, 0].tolist():
            before = forwards[t - 1] if t else torch.zeros_like(forwards[0])
            after = backwards[t + 1] if t < 7 else torch.zeros_like(backwards[0])
            assert torch.equal(forwards[t], before)
            assert torch.equal(backwards[t], after)


def slow_attention(attention, vectors):
    weights = []
    for vector in vectors:
        hidden = torch.tanh(attention.project.weight @ vector + attention.project.bias)
        score = (attention.score.weight[0] @ hidden).detach()
        weights.append(math.exp(float(score)))
    total = sum(weights)
    return sum(w / total * v for w, v in zip(weights, vectors, strict=True))


@pytest.mark.parametrize("case", OF_BILSTM)
def test_bilstm_attention_equals_torch_and_a_loop(case):
    model, modalities = build(BiLSTMAttention, case)
    signals, masks = batch_for(modalities)
    found = model(signals, masks)
    for i in range(4):
        branches = []
        for name, modality in modalities.items():
            encoder = model.encoders[name]
            steps = signals[name][i, masks[name][i]][:, by_name(modality)].flatten(1)
            for layer in encoder.layers:
                steps = torch_lstm(layer, steps.shape[-1])(steps)[0]
            branches.append(slow_attention(encoder.attention, steps))
            torch.testing.assert_close(found[name][i], branches[-1])
        if len(branches) == 1:
            assert model.fusion is None
            torch.testing.assert_close(found[FUSION][i], branches[0])
        else:
            fused = slow_attention(model.fusion, branches)
            torch.testing.assert_close(found[FUSION][i], fused)


def test_attention_stays_finite_far_from_zero():
    attention = AdditiveAttention(2, 3).to(DOUBLE)
    with torch.no_grad():
        attention.score.weight.fill_(1e4)
    vectors = [torch.full((2, 2), value, dtype=DOUBLE) for value in (50.0, -50.0)]
    valid = [torch.tensor([True, False]), torch.tensor([True, False])]
    found = attention(vectors, valid)
    assert found.isfinite().all() and not found[1].any()
    assert float(found[0].abs().max().detach()) == pytest.approx(50)


# ------------------------------------------------------------- canonical correlation


def views(seed=0, *, batch=40, dims=(5, 3)):
    """Two views that share a little, in no particular scale."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(batch, 2, generator=generator, dtype=DOUBLE)
    found = []
    for dim in dims:
        mix = torch.randn(2, dim, generator=generator, dtype=DOUBLE)
        noise = torch.randn(batch, dim, generator=generator, dtype=DOUBLE)
        found.append(3 * (shared @ mix + noise) + 1)
    return found


def correlate(first, second, weights=None, **options):
    if weights is None:
        weights = torch.ones(len(first), dtype=first.dtype)
    return canonical_correlations(first, second, weights, **options)


def by_qr(first, second):
    """Canonical correlations after Bjorck and Golub (1973)."""
    bases = [np.linalg.qr(v - v.mean(0))[0] for v in (first.numpy(), second.numpy())]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)


@pytest.mark.parametrize("dims", [(5, 3), (3, 5), (4, 4), (1, 6)])
def test_correlations_equal_those_of_numpy(dims):
    first, second = views(dims=dims)
    found = correlate(first, second, regularisation=1e-12, relative=False)
    assert found.shape == (min(dims),)
    assert np.allclose(found, by_qr(first, second), atol=2e-6)


def test_correlations_equal_those_of_scikit_learn():
    first, second = views()
    model = CCA(n_components=3, scale=False, max_iter=10_000, tol=1e-14)
    scores = model.fit_transform(first.numpy(), second.numpy())
    expected = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(scores[0].T, scores[1].T, strict=True)
    ]
    found = correlate(first, second, regularisation=1e-12, relative=False)
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("regularisation", [1e-3, 0.3])
def test_regularised_correlations_equal_those_with_square_roots(
    relative, regularisation
):
    first, second = views(1)
    roots = []
    for view in (first, second):
        covariance = np.cov(view.numpy().T)
        scale = np.trace(covariance) / len(covariance) if relative else 1.0
        ridge = regularisation * scale + 1e-6 * relative
        values, vectors = np.linalg.eigh(covariance + ridge * np.eye(len(covariance)))
        roots.append(vectors / np.sqrt(values) @ vectors.T)
    cross = np.cov(first.numpy().T, second.numpy().T)[:5, 5:]
    expected = np.linalg.svd(roots[0] @ cross @ roots[1], compute_uv=False)
    options = {"regularisation": regularisation, "relative": relative}
    found = correlate(first, second, **options)
    assert np.allclose(found, expected, atol=2e-6)


def test_correlations_do_not_change_with_scale_or_linear_maps():
    first, second = views(2)
    found = correlate(first, second)
    scaled = correlate(first * 100 - 7, second / 10)
    assert torch.allclose(found, scaled, atol=1e-4)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=DOUBLE))[0]
    assert torch.allclose(found, correlate(first @ turn, second), atol=1e-9)
    absolute = correlate(first / 1e3, second / 1e3, relative=False)
    assert absolute.max() < 0.2 < found.max()


def test_a_view_correlates_with_itself_up_to_the_regularisation():
    first = torch.linalg.qr(views()[0] - views()[0].mean(0))[0]
    found = correlate(first, 5 * first, regularisation=0.25, relative=True)
    assert torch.allclose(found, torch.full_like(found, 1 / 1.25), atol=1e-4)


def test_samples_without_weight_do_not_count():
    first, second = views(3)
    weights = (torch.arange(40) % 3 > 0).to(DOUBLE)
    kept = weights > 0
    expected = correlate(first[kept], second[kept])
    spoilt = first.clone()
    spoilt[~kept] = torch.nan
    assert torch.allclose(correlate(spoilt, second, weights), expected, atol=1e-12)
    leaf = spoilt.requires_grad_()
    correlate(leaf, second, weights).sum().backward()
    assert leaf.grad.isfinite().all() and not leaf.grad[~kept].any()
    assert leaf.grad[kept].any()


# ------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("relative", [True, False])
def test_gradients_are_those_of_finite_differences(relative):
    first, second = (view[:12].requires_grad_() for view in views(4))
    assert torch.autograd.gradcheck(
        lambda a, b: correlate(a, b, relative=relative).sum(), (first, second)
    )


def test_equal_correlations_have_the_gradient_of_finite_differences():
    """Where autograd's formula for eigenvectors divides by zero."""
    first = torch.linalg.qr(views()[0][:12] - views()[0][:12].mean(0))[0]
    second = first.clone()
    values = correlate(first, second)
    assert float(values.max() - values.min()) < 1e-9
    assert torch.autograd.gradcheck(
        lambda a: correlate(a, second).sum(), first.requires_grad_()
    )


DEGENERATE = {
    "one point": lambda a: torch.ones_like(a),
    "zero": torch.zeros_like,
    "one dimension": lambda a: a[:, :1].expand_as(a),
    "two points": lambda a: a[torch.arange(len(a)) % 2],
    "huge": lambda a: a * 1e15,
    "tiny": lambda a: a * 1e-15,
}


@pytest.mark.parametrize("second", DEGENERATE)
@pytest.mark.parametrize("first", DEGENERATE)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_degenerate_batches_have_finite_gradients(first, second, dtype):
    pair = [
        DEGENERATE[name](view).to(dtype).clone().requires_grad_()
        for name, view in zip((first, second), views(), strict=True)
    ]
    found = correlate(*pair)
    found.sum().backward()
    assert found.dtype == dtype and found.isfinite().all()
    assert found.min() >= -1e-6 and found.max() <= 1 + 1e-6
    for view in pair:
        assert view.grad.isfinite().all()
    if {first, second} & {"one point", "zero"}:
        assert not found.any() and not any(view.grad.any() for view in pair)


def test_too_few_samples_are_zero_with_zero_gradient():
    first, second = (view.requires_grad_() for view in views(5))
    for present in (0, 1, 2, 6, 7):
        weights = (torch.arange(40) < present).to(DOUBLE)
        found = correlate(first, second, weights, minimum=7)
        gradients = torch.autograd.grad(found.sum(), [first, second])
        for each in (found, *gradients):
            assert bool(each.any()) == (present == 7)


def test_what_is_not_a_number_stays_so():
    first, second = views(6)
    first[3, 2] = torch.nan
    assert correlate(first, second).isnan().all()


def test_populations_have_the_gradients_of_each():
    first, second = (torch.stack([view, view * 0, view * 2]) for view in views(7))
    second[0] = 0

    def total(a, b):
        return correlate(a, b, minimum=8).sum()

    found = vmap(grad(total, argnums=(0, 1)))(first, second)
    for i in range(3):
        for own, expected in zip(
            found, grad(total, argnums=(0, 1))(first[i], second[i]), strict=True
        ):
            torch.testing.assert_close(own[i], expected)
            assert bool(expected.any()) == (i == 2)


# --------------------------------------------------------------------------- adapter


def outputs(embeddings, present=None):
    logits = {name: torch.zeros(40, 3, dtype=DOUBLE) for name in embeddings}
    return Outputs(embeddings, logits, present or {})


def losses(adapter, source, target=None):
    labels = torch.zeros(40, dtype=torch.long)
    seen = Target(outputs(target or source), 0.5)
    return adapter(Source(outputs(source), labels, labels), seen)


def test_the_loss_is_the_negative_mean_over_pairs():
    first, second = views(8)
    third, _ = views(9, dims=(4, 4))
    source = {"eeg": first, "eye": second, "ecg": third, FUSION: first}
    target = {**source, "eye": second.roll(1, 0)}
    adapter = CanonicalCorrelation(weight=0.3)
    found = losses(adapter, source, target)
    for name, each in (("source", source), ("target", target)):
        pairs = [("eeg", "eye"), ("eeg", "ecg"), ("eye", "ecg")]
        sums = [float(correlate(each[a], each[b]).sum()) for a, b in pairs]
        assert float(found[name]) == pytest.approx(-0.3 * sum(sums) / 3)
    alone = losses(CanonicalCorrelation(weight=1.0, components=1), source)
    best = [float(correlate(source[a], source[b])[0]) for a, b in pairs]
    assert float(alone["source"]) == pytest.approx(-sum(best) / 3)
    assert set(losses(CanonicalCorrelation(on_target=False), source)) == {"source"}


def test_a_pair_counts_where_both_sensors_recorded_enough():
    first, second = views(10)
    third, _ = views(11)
    branches = {"eeg": first, "eye": second, "ecg": third, FUSION: first}
    half, few = torch.arange(40) < 20, torch.arange(40) < 7
    given = outputs(branches, {"eye": half, "ecg": few})
    adapter = CanonicalCorrelation(weight=1.0)
    labels = torch.zeros(40, dtype=torch.long)
    found = adapter(Source(given, labels, labels), Target(given, 0.5))
    expected = -float(correlate(first[:20], second[:20]).sum())
    assert float(found["source"]) == pytest.approx(expected)
    assert not losses(adapter, {"eeg": first, FUSION: first})["source"].any()


def one_measure_in_common(count):
    """Signals of noise, but for one measure of each modality."""
    masks = dict.fromkeys(PAIR, torch.ones(count, 1).bool())
    signals = {
        n: torch.randn(count, 1, len(m.channels), len(m.features))
        for n, m in PAIR.items()
    }
    signals["eye"][..., 1, 0] = signals["eeg"][..., 2, 1]
    return signals, masks


def test_training_raises_the_correlation_of_what_it_never_saw():
    torch.manual_seed(0)
    model = DeepCCA(PAIR, hidden=(16,), width=3)
    adapter = CanonicalCorrelation(weight=1.0, on_target=False)
    labels, unseen = torch.zeros(100, dtype=torch.long), one_measure_in_common(1000)

    def held_out():
        with torch.no_grad():
            found = model(*unseen)
        return float(correlate(found["eeg"], found["eye"])[0])

    before = held_out()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        found = model(*one_measure_in_common(100))
        logits = {name: found[name].new_zeros(100, 3) for name in found}
        batch = Outputs(found, logits)
        loss = adapter(Source(batch, labels, labels), Target(batch, 0.5))["source"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert before < 0.5 < 0.9 < held_out()
