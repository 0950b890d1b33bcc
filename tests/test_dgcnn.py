"""DGCNN against its spectral definition, and what may not change its output."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from domainemo.backbones.dgcnn import DGCNN
from domainemo.backbones.regions import ELECTRODES
from domainemo.core import FUSION, Modality
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find
from domainemo.samplings.trials import Trials
from domainemo.samplings.windows import Windows
from domainemo.testing import checks

torch.set_num_threads(1)
DOUBLE = torch.float64
SMALL = ("Fp1", "AF3", "F7", "Fz", "T7", "C3", "Cz", "P4", "O1", "Oz", "O2")


def eeg(channels=SMALL, features=3):
    return Modality(tuple(channels), tuple("abcde"[:features]), "eeg")


def measures(count, kind="eye", features=1):
    names = tuple(f"{kind} {i}" for i in range(count))
    return Modality(names, tuple(map(str, range(features))), kind)


def pair(channels=SMALL, count=7):
    return {"eeg": eeg(channels), "eye": measures(count)}


CASES = {
    "pair": (pair(), {}),
    "EEG alone": ({"eeg": eeg()}, {"width": 12}),
    "five": (
        {
            "ecg": measures(2, "physiology", 3),
            **pair(),
            "gsr": measures(1),
            "breath": measures(4, "physiology"),
        },
        {"width": 12, "filters": 7, "companion_hidden": 5},
    ),
    "exact, order 4, prior": (
        pair(),
        {"spectrum": "exact", "order": 4, "prior": 0.5, "filters": 9},
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


def build(case="pair", *, seed=0, dtype=DOUBLE, training=False):
    modalities, options = CASES[case]
    torch.manual_seed(seed)
    model = DGCNN(modalities, **options)
    with torch.no_grad():  # some edges are cut by the ReLU
        model.graph.weight.sub_(0.04)
    return model.to(dtype).train(training), modalities


def batch_for(modalities, *, batch=4, time=5, dtype=DOUBLE):
    """Signals, and masks of unlike lengths with one sensor gap; sample 0 is whole."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([max(time - i, 1) for i in range(batch)])
    signals, masks = {}, {}
    for number, (name, modality) in enumerate(modalities.items()):
        shape = (batch, time, len(modality.channels), len(modality.features))
        masks[name] = torch.arange(time) < lengths[:, None]
        if batch > 1 and time > 2:
            masks[name][1, number % (time - 1)] = False
        signals[name] = torch.randn(shape, generator=generator, dtype=dtype)
    return signals, masks


# -------------------------------------------------------------------------- contract


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=f"{case}-{each.name}")
        for case, (modalities, options) in CASES.items()
        for each in checks(DGCNN, options=options, sensors=[modalities])
    ],
)
def test_shipped_checks(check):
    check()


def test_name_size_and_defaults():
    assert find("backbone", "dgcnn") is DGCNN
    model = DGCNN({"eeg": eeg(ELECTRODES, 5), "eye": measures(33)})
    edges, filters = 62 * 62, (2 * 5 + 1) * 32
    dense, companion = (62 * 32 + 1) * 64, (33 + 1) * 64 + (64 + 1) * 64
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == edges + filters + dense + companion
    assert (model.order, model.prior, model.spectrum) == (2, 0.0, "bound")
    assert isinstance(model.sampling, Windows)
    trials = Trials()
    assert DGCNN(pair(), sampling=trials).sampling is trials
    for branch in ("eeg", FUSION):
        assert isinstance(model.head(branch, 64, 3)[1], nn.Linear)


def test_unfit_options_are_explained():
    for modalities, found in (({"eye": measures(3)}, 0), ({"a": eeg(), "b": eeg()}, 2)):
        with pytest.raises(ConfigurationError, match=f"dgcnn needs .* found {found}"):
            DGCNN(modalities)
    for options, words in (
        ({"width": 0}, r"width is .*; expected at least 1"),
        ({"filters": 0}, r"filters is .*; expected at least 1"),
        ({"companion_hidden": 0}, r"companion_hidden is .*; expected at least 1"),
        ({"order": 0}, "order is 0; expected at least 1"),
        ({"spectrum": "none"}, "'bound', 'exact'"),
        ({"prior": -1.0}, "prior is -1.0; expected a weight"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            DGCNN(pair(), **options)
    with pytest.raises(DataError, match="'heart'"):
        DGCNN(pair(["Cz", "heart"]))
    with pytest.raises(DataError, match="same electrode"):
        DGCNN(pair(["T3", "T7"]))


# ------------------------------------------------------------------------- equations


def spectral_filter(model, coefficients):
    """U g(Lambda) U^T, with g a sum of T_k(x) = cos(k arccos x)."""
    theta = model.graph.weight.detach()
    count = len(theta)
    adjacency = torch.empty(count, count, dtype=DOUBLE)
    for i in range(count):
        for j in range(count):
            adjacency[i, j] = max(float(theta[i, j] + theta[j, i]) / 2, 0.0)
            adjacency[i, j] += model.prior * float(model.graph.distances[i, j])
    degree = adjacency.sum(-1)
    scale = torch.diag(degree**-0.5)
    values, vectors = torch.linalg.eigh(
        torch.eye(count, dtype=DOUBLE) - scale @ adjacency @ scale
    )
    largest = values[-1] if model.spectrum == "exact" else 2.0
    angles = (2 * values / largest - 1).clamp(-1, 1).arccos()
    response = sum(c * torch.cos(k * angles) for k, c in enumerate(coefficients))
    return vectors @ torch.diag(response) @ vectors.T


def published(model, modalities, signals, masks, sample, graph_filter, mix):
    """Embed one sample: filter, 1 x 1 convolution, ReLU, dense; window by window."""
    time = masks["eeg"].shape[-1]
    found = {name: [] for name in (*modalities, FUSION)}
    for t in range(time):
        parts = []
        for name in (model.eeg, *model.companions):
            if not masks[name][sample, t]:
                parts.append(torch.zeros(model.width, dtype=DOUBLE))
                continue
            names = modalities[name].channels
            order = sorted(range(len(names)), key=lambda i, n=names: n[i].upper())
            values = signals[name][sample, t][order]
            if name == "eeg":
                hidden = mix((graph_filter @ values).T[None])[0].T
                part = model.dense(hidden.clamp(min=0).reshape(-1)).clamp(min=0)
            else:
                first, _, second, _ = model.companion_encoders[name]
                hidden = first(values.reshape(-1)).clamp(min=0)
                part = second(hidden).clamp(min=0)
            parts.append(part)
            found[name].append(part)
        if any(masks[name][sample, t] for name in modalities):
            found[FUSION].append(torch.cat(parts))
    zero = torch.zeros(model.width, dtype=DOUBLE)
    return {b: sum(each) / len(each) if each else zero for b, each in found.items()}


@every_case
def test_network_is_the_published_one_among_others(case):
    """With Theta_k = theta_k V: a spectral filter, then torch's 1 x 1 convolution."""
    model, modalities = build(case)
    signals, masks = batch_for(modalities)
    masks["eeg"][3] = masks["eeg"][2, 1:] = False
    features = len(modalities["eeg"].features)
    coefficients = [0.8, -1.7, 0.6, 0.3][: model.order]
    mix = nn.Conv1d(features, model.filters, 1).to(DOUBLE)
    with torch.no_grad():
        kernel = mix.weight[..., 0]
        joined = torch.cat([c * kernel for c in coefficients], -1)
        model.convolution.mix.weight.copy_(joined)
        model.convolution.mix.bias.copy_(mix.bias)
        found, graph_filter = (
            model(signals, masks),
            spectral_filter(model, coefficients),
        )
        for i in range(4):
            expected = published(
                model, modalities, signals, masks, i, graph_filter, mix
            )
            for branch, value in expected.items():
                torch.testing.assert_close(found[branch][i], value)
    assert found["eeg"][0].any() and not found["eeg"][3].any()


def test_an_edge_below_zero_is_cut():
    model, _ = build()
    channels, cut, kept = len(SMALL), 4, 7
    with torch.no_grad():
        model.graph.weight.fill_(0.05)
        model.graph.weight[cut] = model.graph.weight[:, cut] = -1.0
        model.graph.weight[kept, 0] = model.graph.weight[0, kept] = -1.0
    nodes = torch.randn(channels, 3, dtype=DOUBLE)
    laplacian = model.graph()

    def reached(changed):
        other = nodes.clone()
        other[changed] += 1.0
        before, after = (model.convolution(n, laplacian) for n in (nodes, other))
        return (before != after).any(-1).nonzero().flatten().tolist()

    # K = 2 reaches one edge far.
    assert reached(cut) == [cut]
    assert reached(kept) == [i for i in range(channels) if i not in (0, cut)]
    model.convolution(nodes, laplacian).square().sum().backward()
    gradient = model.graph.weight.grad
    assert not gradient[cut].any() and gradient[kept, 1] != 0


# ----------------------------------------------------------------------- invariances


@every_case
@pytest.mark.parametrize("time", [1, 5])
@pytest.mark.parametrize("extra", [1, 17])
def test_more_padding_changes_no_bit(case, time, extra):
    model, modalities = build(case, dtype=torch.float32)
    signals, masks = batch_for(modalities, time=time, dtype=torch.float32)
    junk = (0, 0, 0, 0, 0, extra)
    longer = {n: functional.pad(s, junk, value=9.0) for n, s in signals.items()}
    padded = {n: functional.pad(m, (0, extra)) for n, m in masks.items()}
    before, after = model(signals, masks), model(longer, padded)
    assert all(torch.equal(before[b], after[b]) for b in before)


@every_case
@pytest.mark.parametrize("junk", [7.0, math.nan, math.inf])
def test_what_stands_in_masked_places_is_never_seen(case, junk):
    model, modalities = build(case)
    signals, masks = batch_for(modalities)
    spoilt = {
        name: signal.masked_fill(~masks[name][..., None, None], junk)
        for name, signal in signals.items()
    }
    clean, dirty = model(signals, masks), model(spoilt, masks)
    assert all(torch.equal(clean[branch], dirty[branch]) for branch in clean)


@every_case
def test_a_sample_does_not_depend_on_its_batch(case):
    model, modalities = build(case)
    signals, masks = batch_for(modalities)
    together = model(signals, masks)
    for i in range(4):
        own = slice(i, i + 1)
        alone = model(
            {n: s[own] for n, s in signals.items()},
            {n: m[own] for n, m in masks.items()},
        )
        for branch in together:
            torch.testing.assert_close(alone[branch], together[branch][own])


def test_weights_are_bound_to_channels_by_name():
    first = pair(ELECTRODES)
    old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6", "FP1": "Fp1"}
    orders = {n: torch.randperm(len(m.channels)).tolist() for n, m in first.items()}
    second = {
        n: Modality(
            tuple(old.get(m.channels[i], m.channels[i]) for i in orders[n]),
            m.features,
            m.kind,
        )
        for n, m in first.items()
    }
    options = {"prior": 0.3}
    model, other = DGCNN(first, **options).eval(), DGCNN(second, **options).eval()
    other.load_state_dict(model.state_dict())
    signals, masks = batch_for(first, dtype=torch.float32)
    expected = model(signals, masks)
    moved = other({n: s[:, :, orders[n]] for n, s in signals.items()}, masks)
    assert all(torch.equal(expected[branch], moved[branch]) for branch in expected)
    assert torch.equal(model.graph.adjacency(), other.graph.adjacency())
    assert [old.get(name, name) for name in model.electrodes] == list(other.electrodes)
    wrong = other(signals, masks)
    assert not torch.allclose(expected["eeg"], wrong["eeg"])


@every_case
def test_a_modality_branch_sees_its_modality_alone(case):
    model, modalities = build(case)
    signals, masks = batch_for(modalities)
    before = model(signals, masks)
    for changed in modalities:
        after = model({**signals, changed: signals[changed] + 1.0}, masks)
        for branch in before:
            same = torch.equal(before[branch], after[branch])
            assert same == (branch not in (changed, FUSION))


@every_case
def test_any_sensor_may_be_missing(case):
    model, modalities = build(case, training=True)
    signals, masks = batch_for(modalities)
    for lost in (*([name] for name in modalities), list(modalities)):
        partly = {n: m & (n not in lost) for n, m in masks.items()}
        model.zero_grad()
        embeddings = model(signals, partly)
        torch.stack([e.square().sum() for e in embeddings.values()]).sum().backward()
        assert all(e.isfinite().all() for e in embeddings.values())
        assert not any(embeddings[name].any() for name in lost)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(g.isfinite().all() for g in gradients)


def test_eeg_alone_is_its_own_fusion():
    model, modalities = build("EEG alone")
    embeddings = model(*batch_for(modalities))
    assert torch.equal(embeddings["eeg"], embeddings[FUSION])


# ----------------------------------------------------------------------- populations


@every_case
@pytest.mark.parametrize("stack_buffers", [True, False])
def test_stacked_networks_equal_a_loop(case, stack_buffers):
    models = [build(case, seed=seed)[0] for seed in range(3)]
    signals, masks = batch_for(CASES[case][0])
    several = {n: torch.stack([s, s + 1, s * 2]) for n, s in signals.items()}
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0])
    if not stack_buffers:
        buffers = dict(skeleton.named_buffers())

    def run(parameters, buffers, signals):
        return functional_call(skeleton, (parameters, buffers), (signals, masks))

    axes = (0, 0 if stack_buffers else None, 0)
    found = vmap(run, in_dims=axes)(parameters, buffers, several)
    for i, model in enumerate(models):
        expected = model({n: s[i] for n, s in several.items()}, masks)
        for branch in expected:
            torch.testing.assert_close(found[branch][i], expected[branch])
