"""DGCNN against its spectral definition, and what may not change its output."""

from functools import partial

import networks
import pytest
import torch
from networks import DOUBLE, OF_DGCNN, SMALL, batch_for, eeg, measures, pair, turned
from torch import nn

from domainemo.backbones.dgcnn import DGCNN
from domainemo.backbones.regions import ELECTRODES
from domainemo.core import FUSION
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find
from domainemo.samplings.trials import Trials
from domainemo.samplings.windows import Windows

torch.set_num_threads(1)
CASES = OF_DGCNN
every_case = pytest.mark.parametrize("case", CASES)
build = partial(networks.build, DGCNN)


# -------------------------------------------------------------------------- contract


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


def test_weights_are_bound_to_channels_by_name():
    first = pair(ELECTRODES)
    old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6", "FP1": "Fp1"}
    second, orders = turned(first, old)
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


def test_eeg_alone_is_its_own_fusion():
    model, modalities = build("EEG alone")
    embeddings = model(*batch_for(modalities))
    assert torch.equal(embeddings["eeg"], embeddings[FUSION])
