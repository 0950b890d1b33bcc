import copy

import pytest
import torch
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
from domainemo.core import FUSION, Modality
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.samplings.sequences import Sequences
from domainemo.samplings.trials import Trials

torch.set_num_threads(1)
SMALL = ("Fp1", "AF3", "F7", "Fz", "T7", "C3")


def sensor(kind, channels, features):
    if isinstance(channels, int):
        channels = [f"{kind} {i}" for i in range(channels)]
    return Modality(tuple(channels), tuple(map(str, range(features))), kind)


PAIR = {"eeg": sensor("eeg", SMALL, 4), "ecg": sensor("physiology", 2, 7)}
CASES = {
    "pair": (PAIR, {}),
    "EEG alone": ({"eeg": PAIR["eeg"]}, {"length": 3}),
    "no EEG": ({"ecg": PAIR["ecg"]}, {"blocks": 1}),
    "five": (
        {**PAIR, "eye-1": sensor("eye", 5, 1), "a": PAIR["ecg"], "b": PAIR["ecg"]},
        {"length": 1, "blocks": 1, "prompts": 0, "gate": 2},
    ),
    "short alone": (PAIR, {"resolutions": "short", "blocks": 1}),
    "long, no gate": (PAIR, {"resolutions": "long", "blocks": 1, "gate": 0}),
}
every_case = pytest.mark.parametrize("case", CASES)


def build(case="pair", *, seed=0, dtype=torch.float32, training=False, **options):
    modalities, more = CASES[case]
    torch.manual_seed(seed)
    sizes = {"short_width": 8, "long_width": 12, "fusion_hidden": 24}
    model = PhysioSync(modalities, **{**sizes, **more, **options})
    with torch.no_grad():
        for parameter in model.parameters():  # nothing stays at zero or one
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).train(training), modalities


def resolutions(model):
    return ("long", "short") if model.resolutions == "both" else (model.resolutions,)


def batch_for(modalities, *, batch=4, time=5, seed=0, dtype=torch.float32):
    """Signals, and masks of unlike lengths with one sensor gap; sample 0 is whole."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([max(time - i, 1) for i in range(batch)])
    signals, masks = {}, {}
    for number, (name, modality) in enumerate(modalities.items()):
        shape = (batch, time, len(modality.channels), len(modality.features))
        mask = torch.arange(time) < lengths[:, None]
        if batch > 1 and time > 2:
            mask[1, number % (time - 1)] = False
        signals[name] = torch.randn(shape, generator=generator, dtype=dtype)
        signals[name] *= mask[..., None, None]
        masks[name] = mask
    return signals, masks


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
    seed = {"eeg": sensor("eeg", ELECTRODES, 5), "eye": sensor("eye", 33, 1)}
    deap = {"eeg": sensor("eeg", ELECTRODES[:32], 128), "gsr": sensor("gsr", 1, 128)}
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
    dreamer = {"eeg": sensor("eeg", ELECTRODES[:14], 128), "ecg": sensor("ecg", 2, 128)}
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
    model, _ = build("pair", training=True)
    for encoders in (model.short_encoders, model.long_encoders):
        for name, encoder in encoders.items():
            eeg = name == "eeg"
            assert encoder.dropout.probability == (0.2 if eeg else 0.0)
            for block in encoder.blocks:
                found = block.prompts
                assert (found is not None and len(found) == 2) == eeg


# ---------------------------------------------------------------------- invariances


@every_case
@pytest.mark.parametrize("time", [1, 5, 7])
@pytest.mark.parametrize("extra", [1, 6])
def test_more_padding_changes_no_bit(case, time, extra):
    model, modalities = build(case)
    signals, masks = batch_for(modalities, time=time)
    junk = (0, 0, 0, 0, 0, extra)
    longer = {n: functional.pad(s, junk, value=9.0) for n, s in signals.items()}
    padded = {n: functional.pad(m, (0, extra)) for n, m in masks.items()}
    for method in (model, model.views):
        before, after = method(signals, masks), method(longer, padded)
        assert all(torch.equal(before[b], after[b]) for b in before)


@every_case
@pytest.mark.parametrize("junk", [7.0, float("nan"), float("inf")])
def test_what_stands_in_masked_places_is_never_seen(case, junk):
    model, modalities = build(case)
    signals, masks = batch_for(modalities)
    spoilt = {
        name: signal.masked_fill(~masks[name][..., None, None], junk)
        for name, signal in signals.items()
    }
    for method in (model, model.views):
        clean, dirty = method(signals, masks), method(spoilt, masks)
        assert all(torch.equal(clean[b], dirty[b]) for b in clean)


@every_case
def test_a_sample_does_not_depend_on_its_batch(case):
    model, modalities = build(case, dtype=torch.float64)
    signals, masks = batch_for(modalities, time=7, dtype=torch.float64)
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
    model, modalities = build()
    old = {"T7": "T3", "Fp1": "FP1"}
    turned, orders = {}, {}
    for name, modality in modalities.items():
        order = torch.randperm(len(modality.channels)).tolist()
        channels = [modality.channels[i] for i in order]
        names = tuple(old.get(channel, channel) for channel in channels)
        turned[name] = Modality(names, modality.features, modality.kind)
        orders[name] = order
    assert any(order != sorted(order) for order in orders.values())
    other = PhysioSync(
        turned, short_width=8, long_width=12, fusion_hidden=24, length=5
    ).eval()
    other.load_state_dict(model.state_dict())
    signals, masks = batch_for(modalities)
    moved = {name: s[:, :, orders[name]] for name, s in signals.items()}
    expected, found = model(signals, masks), other(moved, masks)
    assert all(torch.equal(expected[b], found[b]) for b in expected)
    kept = other(signals, masks)
    assert not torch.equal(kept["eeg"], expected["eeg"])


@every_case
def test_a_modality_branch_sees_its_modality_alone(case):
    model, modalities = build(case)
    signals, masks = batch_for(modalities)
    before, views = model(signals, masks), model.views(signals, masks)
    for changed in modalities:
        other = {**signals, changed: signals[changed] + 1.0}
        after = model(other, masks)
        for branch in before:
            same = torch.equal(before[branch], after[branch])
            assert same == (branch not in (changed, FUSION))
        for view, value in model.views(other, masks).items():
            assert torch.equal(value, views[view]) == (view.split("/")[0] != changed)


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
        *(("pair", time) for time in (1, 5, 8, 13)),
        ("short alone", 8),
        ("long, no gate", 8),
    ],
)
def test_network_equals_a_loop_over_windows(case, time):
    model, modalities = build(case, dtype=torch.float64)
    signals, masks = batch_for(modalities, time=time, dtype=torch.float64)
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
    signals, masks = batch_for(modalities, time=1, dtype=torch.float64)
    found = model.views(signals, masks)["ecg/short"]
    order = model.get_buffer("_channels_ecg")
    windows = signals["ecg"][:, 0, order].flatten(1)
    torch.testing.assert_close(found, model.short_encoders["ecg"](windows))


# --------------------------------------------------------------------- lost sensors


@every_case
@pytest.mark.parametrize("time", [2, 6])
def test_any_sensor_may_be_missing(case, time):
    model, modalities = build(case, training=True)
    signals, masks = batch_for(modalities, time=time)
    for lost in (*([name] for name in modalities), list(modalities)):
        partly = {n: m & (n not in lost) for n, m in masks.items()}
        model.zero_grad()
        embeddings, views = model(signals, partly), model.views(signals, partly)
        everything = [*embeddings.values(), *views.values()]
        sum(e.square().sum() for e in everything).backward()
        assert all(e.isfinite().all() for e in everything)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(g.isfinite().all() for g in gradients)
        for name in lost:
            assert not embeddings[name].any()
            for resolution in resolutions(model):
                assert not views[f"{name}/{resolution}"].any()


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


@every_case
def test_gradients_reach_every_parameter(case):
    model, modalities = build(case, training=True)
    signals, masks = batch_for(modalities, batch=8)
    sum(e.square().sum() for e in model(signals, masks).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


# ---------------------------------------------------------- populations, checkpoints


@every_case
@pytest.mark.parametrize("stack_buffers", [True, False])
def test_stacked_networks_equal_a_loop(case, stack_buffers):
    models = [build(case, seed=seed, dtype=torch.float64)[0] for seed in range(3)]
    modalities = CASES[case][0]
    signals, masks = batch_for(modalities, time=6, dtype=torch.float64)
    several = {n: torch.stack([s, s + 1, s * 2]) for n, s in signals.items()}
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0])
    if not stack_buffers:
        buffers = dict(skeleton.named_buffers())

    def run(parameters, buffers, signals):
        return functional_call(skeleton, (parameters, buffers), (signals, masks))

    axes = (0, 0 if stack_buffers else None, 0)
    found = vmap(run, in_dims=axes, randomness="different")(
        parameters, buffers, several
    )
    for i, model in enumerate(models):
        expected = model({n: s[i] for n, s in several.items()}, masks)
        for branch in expected:
            torch.testing.assert_close(found[branch][i], expected[branch])


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
