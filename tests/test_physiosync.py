from functools import partial

import networks
import pytest
import torch
from networks import FEW, OF_PHYSIOSYNC, batch_for, eeg, measures
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from domainemo.backbones.physiosync import (
    ConfidenceGate,
    Encoder,
    MultiViewEmbedding,
    PhysioSync,
)
from domainemo.backbones.regions import ELECTRODES
from domainemo.core import FUSION
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.samplings.sequences import Sequences
from domainemo.samplings.trials import Trials

torch.set_num_threads(1)
PAIR, CASES = FEW, OF_PHYSIOSYNC
every_case = pytest.mark.parametrize("case", CASES)
build = partial(networks.build, PhysioSync)


def resolutions(model):
    return ("long", "short") if model.resolutions == "both" else (model.resolutions,)


def parameters_of_encoder(inputs, width, blocks, prompts):
    embedding = 4 * width * (inputs + 1) + 2 * width
    tokens = width * (1 + 4 + 1)
    block = 4 * width * (width + 1) + width * (8 * width + 5) + 6 * width
    return embedding + tokens + blocks * (block + prompts * width) + 2 * width


def parameters_of_network(sensors, length, short, long, gate=3):
    """`sensors`: values of a window, and number of prompts, of each."""
    encoders = sum(
        parameters_of_encoder(inputs, short, 3, prompts)
        + parameters_of_encoder(length * inputs, long, 3, prompts)
        for inputs, prompts in sensors
    )
    gates = gate * (4 * short + 1 + 4 * long + 1)
    fused = len(sensors) * 4 * (long + length * short)
    return encoders + gates + (fused + 3) * 256 + (256 + 3) * 128


# -------------------------------------------------------------------------- options


def test_registered_name_sampling_and_published_sizes():
    assert find("backbone", "physiosync") is PhysioSync
    sampling = PhysioSync(PAIR, length=4).sampling
    assert isinstance(sampling, Sequences) and sampling.length == 4
    trials = Trials()
    assert PhysioSync(PAIR, sampling=trials).sampling is trials
    seed = {"eeg": eeg(ELECTRODES, 5), "eye": measures(33)}
    deap = {"eeg": eeg(ELECTRODES[:32], 128), "gsr": measures(1, "gsr", 128)}
    released = {"short_width": 128, "long_width": 640}
    with torch.device("meta"):
        models = PhysioSync(seed), PhysioSync(deap, **released)
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert counts == [
        parameters_of_network([(310, 2), (33, 0)], 5, 32, 64),
        parameters_of_network([(4096, 2), (128, 0)], 5, 128, 640),
    ]
    # 512 features of a second and 2560 of five, of both sensors, as released.
    assert models[1].fusion[0].in_features == 10240


def names(model):
    """What the parameters belong to, by the first part of their names."""
    return {name.partition(".")[0] for name, _ in model.named_parameters()}


WHOLE = {"short_encoders", "long_encoders", "short_gate", "long_gate", "fusion"}


@pytest.mark.parametrize(
    ("options", "gone", "fused"),
    [
        ({"resolutions": "short"}, {"long_encoders", "long_gate"}, 2 * 4 * 5 * 8),
        ({"resolutions": "long"}, {"short_encoders", "short_gate"}, 2 * 4 * 12),
        ({"gate": 0}, {"short_gate", "long_gate"}, 2 * 4 * (5 * 8 + 12)),
    ],
    ids=["short", "long", "gate"],
)
def test_a_switch_takes_its_modules_away(options, gone, fused):
    assert names(build()[0]) == WHOLE
    model, modalities = build(**options)
    assert names(model) == WHOLE - gone
    assert model.fusion[0].in_features == fused
    signals, masks = batch_for(modalities)
    widths = {"long": 12, "short": 8}
    kept = sum(4 * widths[resolution] for resolution in resolutions(model))
    assert model(signals, masks)["eeg"].shape == (4, kept)
    views = {f"{name}/{each}" for name in modalities for each in resolutions(model)}
    assert set(model.views(signals, masks)) == views


def test_one_second_of_dreamer_as_released():
    """EEG of 14 electrodes and ECG of two leads, one encoder each, 512 features."""
    dreamer = {"eeg": eeg(ELECTRODES[:14], 128), "ecg": measures(2, "ecg", 128)}
    with torch.device("meta"):
        model = PhysioSync(dreamer, resolutions="short", length=1, short_width=128)
    inputs = {
        n: e.embedding.content.in_features for n, e in model.short_encoders.items()
    }
    assert inputs == {"eeg": 1792, "ecg": 256}
    assert model.fusion[0].in_features == 1024


def test_the_released_initialisation_by_its_statistics():
    torch.manual_seed(0)
    sizes = {"short_width": 32, "long_width": 64}
    ours = PhysioSync(PAIR, **sizes)
    model = PhysioSync(PAIR, initialisation="truncated-normal", **sizes)
    drawn = []
    for name, value in model.named_parameters():
        *place, kind = name.split(".")
        module = model.get_submodule(".".join(place))
        if "encoders" not in name or isinstance(module, nn.LayerNorm):
            continue
        if kind in ("bias", "in_proj_bias"):
            assert not value.any(), name
        elif kind in ("weight", "in_proj_weight"):
            drawn.append(value.detach().flatten())
            other = ours.get_parameter(name).detach()
            assert not 0.8 < other.std() / 0.02 < 1.25, name
    values = torch.cat(drawn).double() / 0.02
    count = len(values)
    assert count > 100_000 and values.abs().max() < 6
    assert abs(values.mean()) < 4 / count**0.5
    assert values.square().mean() == pytest.approx(1, abs=4 * (2 / count) ** 0.5)
    # The fourth moment tells a normal distribution, 3, from a uniform one, 1.8.
    assert values.pow(4).mean() == pytest.approx(3, abs=4 * (96 / count) ** 0.5)
    # What is no linear layer of an encoder begins as ever.
    assert torch.equal(model.long_encoders["eeg"].norm.weight, torch.ones(64))
    assert model.fusion[0].bias.any()


def test_what_is_out_of_range_is_explained():
    with pytest.raises(ConfigurationError, match=r"found none.*--modalities"):
        PhysioSync({})
    for option in ("length", "blocks", "fusion_width", "feedforward_ratio"):
        with pytest.raises(ConfigurationError, match=f"{option} is 0; expected"):
            PhysioSync(PAIR, **{option: 0})
    with pytest.raises(
        ConfigurationError, match=r"gate is 1; .*0 for no gate, or 2 or more"
    ):
        PhysioSync(PAIR, gate=1)
    with pytest.raises(ConfigurationError, match="multiple of the number"):
        PhysioSync(PAIR, long_width=30)
    with pytest.raises(ConfigurationError, match=r"dropout is 1\.0; expected"):
        PhysioSync(PAIR, dropout=1.0)


def test_prompts_and_dropout_are_for_the_eeg_alone():
    model, _ = build(training=True)
    for encoders in (model.short_encoders, model.long_encoders):
        for name, encoder in encoders.items():
            eeg = name == "eeg"
            assert encoder.dropout.probability == (0.2 if eeg else 0.0)
            for block in encoder.blocks:
                found = block.prompts
                assert (found is not None and len(found) == 2) == eeg


# ----------------------------------------------------------------------- equations


def reference_encoder(encoder, values):
    """One input at a time, with torch's own attention and prompts as more tokens."""
    embedding, width = encoder.embedding, encoder.summary.shape[-1]
    content = embedding.content(values)
    gates = torch.sigmoid(embedding.gates(values))
    tokens = [encoder.summary[0]]
    for k in range(3):
        product = content * gates[k * width : (k + 1) * width]
        mean, variance = product.mean(), product.var(correction=0)
        scaled = (product - mean) / (variance + 1e-5).sqrt()
        tokens.append(scaled * embedding.norm.weight + embedding.norm.bias)
    tokens = torch.stack(tokens) + encoder.position_embedding + encoder.type_embedding
    for block in encoder.blocks:
        attention = nn.MultiheadAttention(width, block.attention.heads)
        attention = attention.to(values.dtype)
        attention.load_state_dict(block.attention.state_dict())
        joined = tokens
        if block.prompts is not None:
            joined = torch.cat([tokens, block.prompts])
        joined = block.attention_norm(joined)
        mixed = attention(joined, joined, joined)[0][:4]
        tokens = tokens + block.attention_scale * mixed
        norm, up, _, down, _ = block.feedforward
        hidden = functional.relu(up(norm(tokens)))
        hidden = functional.relu(down(hidden))
        tokens = tokens + block.feedforward_scale * hidden
    return torch.cat(list(encoder.norm(tokens)))


@pytest.mark.parametrize("prompts", [0, 2])
def test_encoder_equals_its_equations(prompts):
    torch.manual_seed(0)
    encoder = Encoder(
        9,
        8,
        blocks=2,
        heads=4,
        feedforward=32,
        layer_scale=0.25,
        prompts=prompts,
        dropout=0.2,
    )
    encoder = encoder.double().eval()
    assert all((block.attention_scale == 0.25).all() for block in encoder.blocks)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    values = torch.randn(2, 3, 9, dtype=torch.float64)
    found = encoder(values)
    assert found.shape == (2, 3, 32)
    for i in range(2):
        for j in range(3):
            expected = reference_encoder(encoder, values[i, j])
            torch.testing.assert_close(found[i, j], expected)


def test_views_differ_by_their_gates_alone():
    torch.manual_seed(0)
    embedding = MultiViewEmbedding(5, 8)
    values = torch.randn(2, 5)
    assert not torch.equal(*embedding(values)[:, :2].unbind(1))
    with torch.no_grad():
        embedding.gates.weight.zero_()
        embedding.gates.bias.zero_()
    views = embedding(values)
    assert torch.equal(views[:, 0], views[:, 1])


def test_confidence_gate_multiplies_by_the_largest_share():
    torch.manual_seed(0)
    gate, features = ConfidenceGate(6, 3), torch.randn(4, 6)
    for row, gated in zip(features, gate(features), strict=True):
        scores = gate.score.weight @ row + gate.score.bias
        shares = scores.exp() / scores.exp().sum()
        assert 1 / 3 <= shares.max().item() <= 1
        torch.testing.assert_close(gated, row * max(shares))
    assert not gate(torch.zeros(2, 6)).any()


def gated(gate, features):
    """Features times the largest share of their scores; as they are without a gate."""
    if gate is None:
        return features
    scores = gate.score.weight @ features + gate.score.bias
    return features * (scores.exp() / scores.exp().sum()).max()


def loop(model, modalities, signals, masks, i):
    """Embeddings and views of sample i, window by window."""
    length, time = model.length, next(iter(masks.values())).shape[1]
    found = {}

    def note(branch, value):
        found.setdefault(branch, []).append(value)

    for start in range(0, time, length):
        fused, any_there = [], False
        for name, modality in modalities.items():
            key = model.get_buffer(f"_channels_{name}").tolist()
            window = torch.zeros(len(key), len(modality.features), dtype=torch.float64)
            windows, there = [window] * length, [False] * length
            for t in range(start, min(start + length, time)):
                if masks[name][i, t]:
                    windows[t - start] = signals[name][i, t][key]
                    there[t - start] = True
            own = []
            if model.resolutions != "short":
                long_encoder = model.long_encoders[name]
                long = reference_encoder(
                    long_encoder, torch.cat([w.flatten() for w in windows])
                )
                long = long * any(there)
                own.append(gated(model.long_gate, long))
                fused += own
                if any(there):
                    note(f"{name}/long", long)
            if model.resolutions != "long":
                short = [
                    reference_encoder(model.short_encoders[name], w.flatten()) * valid
                    for w, valid in zip(windows, there, strict=True)
                ]
                seconds = [gated(model.short_gate, s) for s in short]
                fused += seconds
                if any(there):
                    note(f"{name}/short", sum(short) / sum(there))
                    own.append(sum(seconds) / sum(there))
            any_there |= any(there)
            if any(there):
                note(name, torch.cat(own))
        if any_there:
            note(FUSION, model.fusion(torch.cat(fused)))
    return {branch: torch.stack(values).mean(0) for branch, values in found.items()}


@pytest.mark.parametrize(
    ("case", "time"),
    [
        *(("whole", time) for time in (1, 5, 8, 13)),
        ("short alone", 8),
        ("long, no gate", 8),
    ],
)
def test_network_equals_a_loop_over_windows(case, time):
    model, modalities = build(case)
    signals, masks = batch_for(modalities, time=time)
    masks["ecg"][2] = False
    masks["eeg"][0, 5:10] = False
    found = {**model(signals, masks), **model.views(signals, masks)}
    views = {f"{name}/{view}" for name in modalities for view in resolutions(model)}
    assert set(found) == {*modalities, *views, FUSION}
    for i in range(4):
        expected = loop(model, modalities, signals, masks, i)
        for branch, value in found.items():
            zero = torch.zeros_like(value[i])
            torch.testing.assert_close(value[i], expected.get(branch, zero))


def test_a_single_window_is_its_short_view():
    model, modalities = build(dtype=torch.float64)
    signals, masks = batch_for(modalities, time=1)
    found = model.views(signals, masks)["ecg/short"]
    order = model.get_buffer("_channels_ecg")
    windows = signals["ecg"][:, 0, order].flatten(1)
    torch.testing.assert_close(found, model.short_encoders["ecg"](windows))


# --------------------------------------------------------------------- lost sensors


def test_a_missing_modality_is_zero_in_the_fusion():
    model, modalities = build()
    signals, masks = batch_for(modalities)
    masks["ecg"][:] = False
    seen = []
    model.fusion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(signals, masks)
    eeg, ecg = seen[0].chunk(2, -1)
    assert not ecg.any()
    windows = eeg[:, 4 * 12 :].unflatten(-1, (5, -1))
    assert torch.equal(windows.abs().sum(-1) > 0, masks["eeg"])


# ---------------------------------------------------------- populations, checkpoints


def test_stacked_networks_train():
    models = [build(training=True)[0] for _ in range(2)]
    signals, masks = batch_for(PAIR)
    parameters, buffers = stack_module_state(models)

    def run(parameters, buffers):
        return functional_call(models[0], (parameters, buffers), (signals, masks))

    found = vmap(run, randomness="different")(parameters, buffers)
    # Equal weights and inputs: only the dropout tells them apart.
    assert not torch.equal(found["eeg"][0], found["eeg"][1])
    assert torch.allclose(found["ecg"][0], found["ecg"][1])
    sum(e.square().sum() for e in found.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in parameters.values())
