"""MAET against a loop over samples and windows, and what may not change its output."""

import math
from functools import partial

import networks
import pytest
import torch
from networks import DOUBLE, OF_MAET, batch_for, eeg, measures, pair
from torch import nn
from torch.nn import functional

from domainemo.backbones.maet import MAET, SummaryFusion
from domainemo.backbones.regions import ELECTRODES
from domainemo.core import FUSION
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.samplings.trials import Trials
from domainemo.samplings.windows import Windows

torch.set_num_threads(1)
PAIR, CASES = pair(), OF_MAET
every_case = pytest.mark.parametrize("case", CASES)
build = partial(networks.build, MAET)


# -------------------------------------------------------------------------- contract


def released_size(inputs, width=32, views=5, blocks=3, shared=1):
    """Parameters of the released network without its classifiers, by its layers."""
    feedforward = 2 * width + (width + 1) * 4 * width + (4 * width + 1) * width
    attention = 3 * width**2 + 2 * width + (width + 1) * width
    each = sum((values + 1) * width * (1 + views) + 2 * width for values in inputs)
    each += len(inputs) * (1 + (1 + views) + 1) * width
    block = 2 * width + attention + len(inputs) * feedforward + 2 * width
    fusion = width if len(inputs) > 1 else 0
    return each + blocks * block + shared * feedforward + 2 * width + fusion


def test_name_size_and_defaults():
    assert find("backbone", "maet") is MAET
    cap, eyes = eeg(ELECTRODES, 5), measures(33)
    keys = 3 * 32  # the bias of keys, which shifts all scores alike, is not released
    for modalities, expected in (
        ({"eeg": cap, "eye": eyes}, released_size([310, 33]) + keys),
        ({"eeg": cap}, released_size([310], shared=0) + keys),
    ):
        model = MAET(modalities)
        assert sum(p.numel() for p in model.parameters()) == expected
    assert [layer.mixture is None for layer in MAET(PAIR).layers] == [True, True, False]
    assert isinstance(model.sampling, Windows)
    trials = Trials()
    assert MAET(PAIR, sampling=trials).sampling is trials
    assert isinstance(model.head(FUSION, 32, 7), nn.Linear)


def test_initial_values_are_the_released_ones():
    torch.manual_seed(0)
    model = MAET({"eeg": eeg(ELECTRODES, 5), "eye": measures(33)})
    head = model.head(FUSION, 32, 7)
    for path, values in (*model.named_parameters(), *head.named_parameters()):
        if path.endswith("_scale"):
            assert (values == 0.1).all(), path
        elif path == "fusion.weight":
            assert 0.6 < values.std() < 1.4
        elif values.dim() > 1:
            assert 0.014 < values.std() < 0.026 and values.abs().max() < 2, path


def test_unfit_options_are_explained():
    with pytest.raises(ConfigurationError, match=r"found none.*--modalities"):
        MAET({})
    for options, words in (
        ({"width": 30}, "multiple of the number"),
        ({"view_count": 0}, r"view_count is .*; expected at least 1"),
        ({"blocks": 0}, r"blocks is .*; expected at least 1"),
        ({"feedforward_ratio": 0}, r"feedforward_ratio is .*; expected at least 1"),
        ({"mixture_from": -1}, r"mixture_from is .*; expected at least 0"),
        ({"dropout": 1.0}, "dropout is 1.0; expected at least 0"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            MAET(PAIR, **options)


# ------------------------------------------------------------------------- equations


def normalised(norm, token):
    scaled = (token - token.mean()) / (token.var(correction=0) + 1e-5).sqrt()
    return scaled * norm.weight + norm.bias


def embedded(model, name, values):
    """The summary token and the views of one window, one by one."""
    own, width = model.tokens[name], model.width
    content = own.embedding.content(values)
    gates = torch.sigmoid(own.embedding.gates(values))
    tokens = [own.summary[0]]
    for k in range(model.view_count):
        product = content * gates[k * width : (k + 1) * width]
        tokens.append(normalised(own.embedding.norm, product))
    return torch.stack(tokens) + own.position_embedding + own.type_embedding


def read(model, tokens, names, mixed):
    """Pass one sequence, token by token but for torch's attention.

    `names` says whose each token is; `mixed`, in which blocks all share a layer.
    """
    for number, block in enumerate(model.layers):
        attention = nn.MultiheadAttention(model.width, model.heads).to(DOUBLE)
        attention.load_state_dict(block.attention.state_dict())
        rows = torch.stack([normalised(block.attention_norm, t) for t in tokens])
        tokens = tokens + block.attention_scale * attention(rows, rows, rows)[0]
        fed = []
        for token, name in zip(tokens, names, strict=True):
            layers = block.mixture if mixed(number) else block.experts[name]
            norm, up, _, _, down, _ = layers
            hidden = functional.gelu(up(normalised(norm, token)))
            fed.append(token + block.feedforward_scale * down(hidden))
        tokens = torch.stack(fed)
    return torch.stack([normalised(model.norm, token) for token in tokens])


def window(model, modalities, signals, there, sample, t):
    """Embed one window of one sample: what is missing is not among its tokens."""
    tokens, found = {}, {}
    for name in there:
        channels = modalities[name].channels
        order = sorted(range(len(channels)), key=lambda i: channels[i].upper())
        values = signals[name][sample, t][order].reshape(-1)
        tokens[name] = embedded(model, name, values)
        count = len(tokens[name])
        final = read(model, tokens[name], [name] * count, lambda number: False)
        found[name] = sum(final[1:]) / (count - 1)
    if len(modalities) == 1:
        return {**found, FUSION: found[there[0]]}
    final = read(
        model,
        torch.cat(list(tokens.values())),
        [name for name in there for _ in range(count)],
        lambda number: number >= model.mixture_from,
    )
    summaries = [final[i * count] for i in range(len(there))]
    weights = [math.exp(float(s @ model.fusion.weight)) for s in summaries]
    fused = sum(w * s for w, s in zip(weights, summaries, strict=True))
    return {**found, FUSION: fused / sum(weights)}


@every_case
def test_network_equals_a_loop_over_samples_and_windows(case):
    model, modalities = build(case)
    signals, masks = batch_for(modalities, batch=3, time=3)
    masks[next(iter(modalities))][2] = False
    with torch.no_grad():
        found = model(signals, masks)
        for i in range(3):
            parts = {branch: [] for branch in found}
            for t in range(3):
                there = [name for name in modalities if masks[name][i, t]]
                if there:
                    each = window(model, modalities, signals, there, i, t)
                    for branch, value in each.items():
                        parts[branch].append(value)
            for branch, values in parts.items():
                zero = torch.zeros(model.width, dtype=DOUBLE)
                expected = sum(values) / len(values) if values else zero
                torch.testing.assert_close(found[branch][i], expected)


def test_feed_forward_layers_are_of_one_modality_first_and_of_all_after():
    model, modalities = build()
    signals, masks = batch_for(modalities)
    before = model(signals, masks)
    first, last = model.layers[0], model.layers[2]
    for layers, moved in (
        (first.experts["eye"], {"eye", FUSION}),
        (last.experts["eye"], {"eye"}),
        (last.mixture, {FUSION}),
        (first.attention, {"eeg", "eye", FUSION}),
    ):
        weight = next(p for p in layers.parameters() if p.dim() > 1)
        with torch.no_grad():
            weight.add_(0.5)
            after = model(signals, masks)
            weight.sub_(0.5)
        changed = {b for b in before if not torch.allclose(before[b], after[b])}
        assert changed == moved


def test_feedforward_layers_drop_hidden_and_outgoing_values_by_sample():
    """A factor for every sample in place of what is drawn, against a loop."""
    model, modalities = build("five", training=True)
    block, batch = model.layers[0], 3
    tokens = torch.randn(len(modalities), batch, 4, model.width, dtype=DOUBLE)
    factors = torch.tensor([0.0, 2.0, 3.0], dtype=DOUBLE)
    found = block.experts_at_once()(tokens, lambda v: v * factors[:, None, None, None])
    for place, name in enumerate(modalities):
        norm, up, _, _, down, _ = block.experts[name]
        for sample, factor in enumerate(factors):
            for row, token in enumerate(tokens[place, sample]):
                hidden = factor * functional.gelu(up(normalised(norm, token)))
                expected = factor * down(hidden)
                torch.testing.assert_close(found[place, sample, row], expected)


def test_fusion_is_a_softmax_over_the_modalities_that_are_there():
    torch.manual_seed(0)
    fusion = SummaryFusion(4)
    summaries = torch.randn(5, 3, 4)
    there = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]]) > 0
    fused = fusion(summaries, there)
    for i in range(5):
        kept = summaries[i][there[i]]
        expected = (kept @ fusion.weight).softmax(-1) @ kept
        torch.testing.assert_close(fused[i], expected)
    assert torch.equal(fused[2], summaries[2, 1]) and not fused[3].any()


def test_a_single_modality_is_its_own_fusion():
    for case in ("EEG alone", "eyes alone"):
        model, modalities = build(case)
        embeddings = model(*batch_for(modalities))
        (name,) = modalities
        assert torch.equal(embeddings[name], embeddings[FUSION])


# ----------------------------------------------------------------------- invariances


def test_modalities_may_come_in_any_order():
    model, modalities = build("five")
    backwards = dict(reversed(modalities.items()))
    other = MAET(
        backwards,
        width=8,
        feedforward_ratio=2,
        mixture_from=0,
        blocks=2,
        view_count=2,
    )
    other = other.to(DOUBLE).eval()
    other.load_state_dict(model.state_dict())
    signals, masks = batch_for(modalities)
    expected, found = model(signals, masks), other(signals, masks)
    for branch in expected:
        torch.testing.assert_close(expected[branch], found[branch])
