from functools import partial

import networks
import pytest
import torch
from networks import OF_R2GFANET, SMALL, build, measures
from torch import nn
from torch.nn import functional

from domainemo.backbones.layers import (
    Attention,
    Dropout,
    TransformerLayer,
    masked_mean,
    masked_softmax,
)
from domainemo.backbones.r2gfanet import CrossAttention, R2GFANet, TemporalEncoder
from domainemo.backbones.regions import ELECTRODES, regions
from domainemo.backbones.uf_ama import UFAMA
from domainemo.core import FUSION
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find
from domainemo.samplings.sequences import Sequences
from domainemo.samplings.trials import Trials
from domainemo.samplings.windows import Windows

torch.set_num_threads(1)
eeg = partial(networks.eeg, features=5)
pair = partial(networks.pair, features=5)
batch_for = partial(networks.batch_for, dtype=torch.float32)


def by_name(modalities, signals, name):
    """Return the first window with its channels in the order of their names."""
    channels = modalities[name].channels
    order = sorted(range(len(channels)), key=channels.__getitem__)
    return signals[name][:, 0, order]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# ------------------------------------------------------------------------ contract


def test_registered_names_samplings_and_options():
    assert find("backbone", "r2gfanet") is R2GFANet
    assert find("backbone", "uf-ama") is UFAMA
    model = R2GFANet(pair(), width=32, partition=6)
    assert (model.width, model.heads, model.partition) == (32, 4, "6")
    assert isinstance(model.sampling, Sequences) and model.sampling.length == 8
    assert isinstance(UFAMA(pair()).sampling, Windows)
    trials = Trials()
    assert R2GFANet(pair(), sampling=trials).sampling is trials
    assert UFAMA(pair(), sampling=trials).sampling is trials


def test_unfit_modalities_and_sizes_are_explained():
    with pytest.raises(ConfigurationError, match="exactly one modality of kind 'eeg'"):
        R2GFANet({"eye": measures(3)})
    with pytest.raises(ConfigurationError, match=r"found 2 among: a \(eeg\), b"):
        R2GFANet({"a": eeg(), "b": eeg()})
    with pytest.raises(ConfigurationError, match=r"found none.*--modalities"):
        UFAMA({})
    for cls in (R2GFANet, UFAMA):
        with pytest.raises(ConfigurationError, match="multiple of the number"):
            cls(pair(), width=10, heads=4)
        with pytest.raises(ConfigurationError, match=r"dropout is 1\.0; expected"):
            cls(pair(), dropout=1.0)
    with pytest.raises(ConfigurationError, match=r"kernel is .*; expected at least 1"):
        R2GFANet(pair(), kernel=0)
    with pytest.raises(DataError, match="'heart'"):
        R2GFANet({"eeg": eeg(["Cz", "heart"])})


@pytest.mark.parametrize(
    ("classes", "layers", "measured", "backbone", "heads"),
    [(3, 1, 33, 2_162_176, 21_001), (4, 3, 31, 2_255_104, 21_132)],
)
def test_uf_ama_has_as_many_parameters_as_released(
    classes, layers, measured, backbone, heads
):
    model = UFAMA(pair(ELECTRODES, measured), layers=layers)
    assert count(model) == backbone
    dims = {"eeg": 64, "eye": 64, FUSION: 256}
    assert sum(count(model.head(b, dim, classes)) for b, dim in dims.items()) == heads


# ---------------------------------------------------------------------- invariances


def test_r2gfanet_does_not_depend_on_the_order_of_channels():
    turned = [ELECTRODES[i] for i in torch.randperm(62).tolist()]
    order = [ELECTRODES.index(name) for name in turned]
    model = R2GFANet(pair(ELECTRODES)).eval()
    other = R2GFANet(pair(turned)).eval()
    other.load_state_dict(model.state_dict())
    signals, masks = batch_for(pair(ELECTRODES))
    expected = model(signals, masks)
    moved = other({"eeg": signals["eeg"][:, :, order], "eye": signals["eye"]}, masks)
    for branch in expected:
        assert torch.equal(expected[branch], moved[branch])


# --------------------------------------------------------------------- lost sensors


def test_a_missing_companion_adds_nothing_to_any_region():
    torch.manual_seed(0)
    model = R2GFANet(pair()).eval()
    signals, masks = batch_for(pair())
    masks["eye"][2] = False
    regional = model.region_encoder(signals["eeg"], masks["eeg"])
    heard = model.companion_encoders[0](signals["eye"], masks["eye"])[0]
    mixed, weights = model.alignment.attend[0](regional, heard, masks["eye"])
    assert not mixed[:, 2].any() and not weights[2].any()
    assert mixed[:, 0].abs().min() > 0


def test_a_missing_modality_adds_nothing_to_the_other_in_uf_ama():
    model, modalities = build(UFAMA)
    signals, masks = batch_for(modalities, time=1, dtype=torch.float64)
    masks["eye"][:] = False
    fused = model(signals, masks)[FUSION]
    tokens, _ = model.encoders[0](by_name(modalities, signals, "eeg"))
    alone = model.fusion.down[0](model.fusion.up[0](tokens).flatten(1))
    assert torch.allclose(fused[:, :128], alone) and not fused[:, 128:].any()


# ------------------------------------------------------------------- explicit loops


@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_region_encoder_equals_one_cnn_per_region(kernel):
    torch.manual_seed(0)
    groups = list(regions(SMALL).values())
    encoder = TemporalEncoder(groups, 5, width=8, kernel=kernel, dropout=0.3).eval()
    signals, masks = batch_for(pair())
    signal, mask = signals["eeg"], masks["eeg"]
    found = encoder(signal, mask)
    steps, start = mask[:, None, :].float(), 0
    ends = ((kernel - 1) // 2, kernel // 2)
    for number, group in enumerate(groups):
        first = nn.Conv1d(len(group) * 5, 8, kernel)
        second = nn.Conv1d(8, 8, kernel)
        own = encoder.weight[start : start + len(group)]
        kernels = encoder.second.weight[number].reshape(kernel, 8, 8)
        with torch.no_grad():
            first.weight.copy_(own.permute(3, 0, 2, 1).flatten(1, 2))
            first.bias.copy_(encoder.bias[number, 0])
            second.weight.copy_(kernels.permute(2, 1, 0))
            second.bias.copy_(encoder.embedding[number, 0])
            own = signal[:, :, group].flatten(2).transpose(1, 2)
            hidden = first(functional.pad(own, ends)) * steps
            hidden = functional.gelu(encoder.norm(hidden.transpose(1, 2)))
            hidden = functional.pad(hidden.transpose(1, 2) * steps, ends)
            hidden = second(hidden) * steps
        torch.testing.assert_close(found[number], hidden.transpose(1, 2))
        start += len(group)
    assert start == len(SMALL)


@pytest.mark.parametrize("groups", [1, 3])
def test_cross_attention_equals_torch_region_by_region(groups):
    torch.manual_seed(0)
    ours = CrossAttention(groups, 16, 4)
    regional, heard = torch.randn(3, 4, 5, 16), torch.randn(4, 5, 16)
    mask = torch.rand(4, 5) < 0.6
    mask[:, 0] = True
    mixed, weights = ours(regional, heard, mask)
    weights = weights.flatten(1, 2)
    for region in range(3):
        group = region if groups == 3 else 0
        theirs = nn.MultiheadAttention(16, 4, batch_first=True)
        projections = (ours.query, ours.key, ours.value)
        with torch.no_grad():
            theirs.in_proj_weight.copy_(
                torch.cat([p.weight[group].T for p in projections])
            )
            zero = torch.zeros(1, 16)
            theirs.in_proj_bias.copy_(
                torch.cat([ours.query.bias[group], zero, ours.value.bias[group]], 1)[0]
            )
            theirs.out_proj.weight.copy_(ours.out.weight[group].T)
            theirs.out_proj.bias.copy_(ours.out.bias[group, 0])
        expected, expected_weights = theirs(
            regional[region],
            heard,
            heard,
            key_padding_mask=~mask,
            average_attn_weights=False,
        )
        torch.testing.assert_close(mixed[region], expected)
        torch.testing.assert_close(weights[:, region], expected_weights)


def test_attention_and_transformer_layer_are_torchs():
    torch.manual_seed(0)
    ours, theirs = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    query, memory = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    torch.testing.assert_close(ours(query, memory), theirs(query, memory, memory)[0])
    torch.testing.assert_close(ours(query, query), theirs(query, query, query)[0])
    layer = TransformerLayer(16, 4, 32, dropout=0.0)
    reference = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    layer.load_state_dict(reference.state_dict())
    torch.testing.assert_close(layer(query), reference(query))


def test_attention_of_all_heads_at_once_is_torchs():
    torch.manual_seed(0)
    ours = Attention(16, 4, few=True).double()
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).double()
    ours.load_state_dict(theirs.state_dict())
    query = torch.randn(3, 5, 16, dtype=torch.float64)
    memory = torch.randn(3, 7, 16, dtype=torch.float64)
    valid = torch.rand(3, 7) < 0.6
    valid[:, 0] = True
    for keys, there in ((memory, None), (memory, valid), (query, None)):
        found, hidden = ours(query, keys, there), None if there is None else ~there
        expected = theirs(query, keys, keys, key_padding_mask=hidden)[0]
        torch.testing.assert_close(found, expected)
        weights = torch.randn_like(found)
        sought = [
            torch.autograd.grad((each * weights).sum(), network.parameters())
            for each, network in ((found, ours), (expected, theirs))
        ]
        for own, other in zip(*sought, strict=True):
            torch.testing.assert_close(own, other)
    nothing = ours(query, memory, torch.zeros(3, 7, dtype=torch.bool))
    torch.testing.assert_close(nothing, ours.out_proj.bias.expand_as(nothing))


def test_uf_ama_equals_the_released_network():
    model, modalities = build(UFAMA, "three layers", dtype=torch.float32)
    signals, masks = batch_for(modalities, time=1)
    tokens, embeddings = {}, {}
    for name, encoder in zip(modalities, model.encoders, strict=True):
        layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
        stack = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
        stack.layers.load_state_dict(encoder.layers.state_dict())
        tokens[name] = stack(encoder.up(by_name(modalities, signals, name)))
        embeddings[name] = encoder.down(tokens[name].flatten(1))
    wide = [up(t) for up, t in zip(model.fusion.up, tokens.values(), strict=True)]
    fused = []
    for own, other in ((0, 1), (1, 0)):
        attention = nn.MultiheadAttention(64, 2, batch_first=True)
        attention.load_state_dict(model.fusion.attend[own].state_dict())
        heard, _ = attention(wide[own], wide[other], wide[other])
        fused.append(model.fusion.down[own]((heard + wide[own]).flatten(1)))
    embeddings[FUSION] = torch.cat(fused, 1)
    found = model(signals, masks)
    for branch, embedding in embeddings.items():
        torch.testing.assert_close(found[branch], embedding)


def test_uf_ama_attends_to_all_others_that_are_there():
    model, modalities = build(UFAMA, "four modalities", dtype=torch.float32)
    signals, masks = batch_for(modalities, time=1)
    masks["ecg"] = torch.zeros_like(masks["ecg"])
    found = model(signals, masks)[FUSION].chunk(4, -1)
    wide = {}
    for name, encoder, up in zip(
        modalities, model.encoders, model.fusion.up, strict=True
    ):
        wide[name] = up(encoder(by_name(modalities, signals, name))[0])
    for own, name in enumerate(modalities):
        if name == "ecg":
            assert (found[own] == 0).all()
            continue
        others = [n for n in modalities if n not in (name, "ecg")]
        memory = torch.cat([wide[other] for other in others], 1)
        attention = nn.MultiheadAttention(32, 2, batch_first=True)
        attention.load_state_dict(model.fusion.attend[own].state_dict())
        heard, _ = attention(wide[name], memory, memory)
        expected = model.fusion.down[own]((heard + wide[name]).flatten(1))
        torch.testing.assert_close(found[own], expected)


def test_uf_ama_averages_the_windows_that_are_there():
    model, modalities = build(UFAMA)
    signals, masks = batch_for(modalities, dtype=torch.float64)
    found = model(signals, masks)
    for i in range(4):
        steps = [
            model(
                {n: s[i : i + 1, t : t + 1] for n, s in signals.items()},
                {n: m[i : i + 1, t : t + 1] for n, m in masks.items()},
            )
            for t in range(5)
        ]
        there = {**masks, FUSION: masks["eeg"] | masks["eye"]}
        for branch, embedding in found.items():
            kept = [
                s[branch] for s, m in zip(steps, there[branch][i], strict=True) if m
            ]
            expected = torch.cat(kept).mean(0)
            torch.testing.assert_close(embedding[i], expected)


# --------------------------------------------------------------------------- layers


def test_masked_softmax_and_mean():
    scores = torch.randn(3, 4, requires_grad=True)
    valid = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]).bool()
    for dim, turned, mask in ((-1, scores, valid), (0, scores.T, valid.T)):
        weights = masked_softmax(turned, mask, dim)
        total = weights.sum(dim)
        assert torch.allclose(total, torch.tensor([1.0, 1.0, 0.0]))
        assert not weights[~mask].any()
    masked_softmax(scores, valid).square().sum().backward()
    assert scores.grad.isfinite().all() and not scores.grad[2].any()
    values = torch.randn(3, 4, 2)
    mean = masked_mean(values, valid)
    assert torch.allclose(mean[1], values[1, [1, 3]].mean(0)) and not mean[2].any()


def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    layer, values = Dropout(0.3), torch.ones(100_000)
    dropped = layer(values)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.max()) == pytest.approx(1 / 0.7, rel=1e-5)
    assert torch.equal(layer.eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)


# ---------------------------------------------------------------------- explanation


@pytest.mark.parametrize("case", OF_R2GFANET)
def test_explanation_sums_to_one_over_what_was_recorded(case):
    model, modalities = build(R2GFANet, case, dtype=torch.float32, training=True)
    signals, masks = batch_for(modalities)
    first, again = model.explain(signals, masks), model.explain(signals, masks)
    assert model.training and torch.equal(first.spatial, again.spatial)
    names = tuple(regions(SMALL, model.partition))
    assert first.regions == names and first.spatial.shape == (4, len(names))
    assert torch.allclose(first.spatial.sum(-1), torch.ones(4))
    listens = model.cross_attention != "none"
    assert set(first.temporal) == (set(modalities) - {"eeg"} if listens else set())
    for name, weights in first.temporal.items():
        assert weights.shape == (4, len(names), 4, 5, 5)
        assert not weights.requires_grad
        unheard = ~masks[name][:, None, None, None].expand_as(weights)
        assert not weights[unheard].any()
        total = (masks["eeg"] & masks[name].any(-1, keepdim=True)).float()
        expected = total[:, None, None].expand(weights.shape[:-1])
        assert torch.allclose(weights.sum(-1), expected)


# ---------------------------------------------------------- populations, checkpoints


def test_a_state_fits_old_electrode_names():
    modern = R2GFANet({"eeg": eeg(["T7", "Cz", "P8"])})
    old = R2GFANet({"eeg": eeg(["CZ", "T6", "T3"])})
    old.load_state_dict(modern.state_dict())
    signal, mask = torch.randn(2, 3, 3, 5), torch.ones(2, 3, dtype=torch.bool)
    expected = modern.eval()({"eeg": signal}, {"eeg": mask})
    found = old.eval()({"eeg": signal[:, :, [1, 2, 0]]}, {"eeg": mask})
    assert torch.equal(expected[FUSION], found[FUSION])
