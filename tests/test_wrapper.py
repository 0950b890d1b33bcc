"""Networks of others as backbones: what they are shown, what is read, what is refused.

Embeddings are compared with the network called by hand, window by window.
"""

from __future__ import annotations

import copy
import importlib.util
import re
import sys
import tomllib
import types
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

import domainemo as de
from domainemo import registry
from domainemo.backbones.wrapper import (
    Wrapped,
    as_sequences,
    as_signals,
    as_windows,
    size_of,
)
from domainemo.choices import RunChoices, choices_of
from domainemo.cli import main
from domainemo.core import FUSION, Modality
from domainemo.errors import ConfigurationError
from domainemo.processes import process_pool
from domainemo.registry import find
from domainemo.samplings.sequences import Sequences
from domainemo.samplings.trials import Trials
from domainemo.samplings.windows import Windows
from domainemo.testing import check, checks

torch.set_num_threads(1)
PAGE = Path(__file__).parents[1] / "docs" / "own-network.md"


def sensor(channels, features, kind="eeg"):
    names = tuple(f"{kind} {i}" for i in range(channels))
    return Modality(names, tuple(map(str, range(features))), kind)


EEG, EYE = sensor(4, 3), sensor(2, 1, "eye")
BOTH = {"eeg": EEG, "eye": EYE}
BRANCHES = {"eeg": "brain.2", "eye": "gaze", "fusion": "mix"}


class Lab(nn.Module):
    """A network as labs write them; it knows nothing of this library."""

    def __init__(self, width=6, norm=None, classes=3):
        super().__init__()
        norm = norm or nn.LayerNorm
        self.brain = nn.Sequential(
            nn.Flatten(), nn.Linear(12, width, bias=False), norm(width)
        )
        self.gaze = nn.Linear(2, width)
        self.mix = nn.Linear(2 * width, width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, eeg, eye):
        both = torch.cat([self.brain(eeg), self.gaze(eye.flatten(1))], 1)
        return self.classifier(self.mix(both).relu())


def lab(network=None, modalities=BOTH, **options):
    torch.manual_seed(0)
    options = {"branches": BRANCHES, **options}
    return Wrapped(modalities, network or Lab(), **options).eval()


def batch_for(modalities=BOTH, *, batch=4, time=5):
    """Signals of noise everywhere, and masks of unlike lengths with gaps."""
    generator = torch.Generator().manual_seed(0)
    signals, masks = {}, {}
    for number, (name, modality) in enumerate(modalities.items()):
        shape = (batch, time, len(modality.channels), len(modality.features))
        signals[name] = torch.randn(shape, generator=generator)
        lengths = torch.tensor([max(time - i, 1) for i in range(batch)])
        masks[name] = torch.arange(time) < lengths[:, None]
        masks[name][1, number] = False
    return signals, masks


def shown(signals, masks, sample, step):
    """What a network is shown of one window."""
    return [
        torch.where(masks[n][sample, step], signals[n][sample, step], 0.0)[None]
        for n in signals
    ]


def whole_windows(modalities=BOTH):
    """Samples of one window that lost nothing."""
    signals, masks = batch_for(modalities, time=2)
    signals = {name: signal[:, :1] for name, signal in signals.items()}
    return signals, {name: torch.ones_like(mask[:, :1]) for name, mask in masks.items()}


def hooks_of(module):
    return [
        hook
        for each in module.modules()
        for hook in (*each._forward_hooks, *each._forward_pre_hooks)
    ]


# ---------------------------------------------------------------------- what is read


def test_embeddings_are_the_mean_of_windows_read_by_hand():
    model, (signals, masks) = lab(), batch_for()
    signals["eye"][0, 1], masks["eye"][0, 1] = torch.nan, False
    masks["eye"][3] = False
    network, found = model.network, model(signals, masks)
    for sample in range(4):
        steps = {"eeg": [], "eye": [], FUSION: []}
        for step in range(5):
            eeg, eye = shown(signals, masks, sample, step)
            brain, gaze = network.brain(eeg), network.gaze(eye.flatten(1))
            fused = network.mix(torch.cat([brain, gaze], 1))
            there = {name: bool(mask[sample, step]) for name, mask in masks.items()}
            for branch, value in (("eeg", brain), ("eye", gaze), (FUSION, fused)):
                if there.get(branch, any(there.values())):
                    steps[branch].append(value)
        for branch, values in steps.items():
            mean = torch.cat(values).mean(0) if values else torch.zeros(6)
            torch.testing.assert_close(found[branch][sample], mean)
    assert not found["eye"][3].any()


def test_input_and_output_of_the_network_can_be_read():
    model = lab(branches={**BRANCHES, "fusion": "input of classifier"})
    signals, masks = whole_windows()
    signals_of_one = [signal[:, 0] for signal in signals.values()]
    entered = []
    handle = model.network.classifier.register_forward_hook(
        lambda module, inputs, output: entered.append(inputs[0])
    )
    logits = model.network(*signals_of_one)
    handle.remove()
    assert torch.equal(model(signals, masks)[FUSION], entered[0])
    whole = lab(model.network, branches={**BRANCHES, "fusion": ""})
    assert torch.equal(whole(signals, masks)[FUSION], logits)


def test_an_input_may_be_given_by_name():
    class Named(Lab):
        def forward(self, eeg, eye):
            both = torch.cat([self.brain(eeg), self.gaze(eye.flatten(1))], 1)
            return self.classifier(input=self.mix(input=both))

    model = lab(Named(), branches={**BRANCHES, "fusion": "input of mix"})
    found = model(*batch_for())
    torch.testing.assert_close(
        found[FUSION][:1], torch.cat([found["eeg"], found["eye"]], 1)[:1]
    )


def test_what_works_in_place_does_not_change_what_was_read():
    class InPlace(Lab):
        def forward(self, eeg, eye):
            brain, gaze = self.brain(eeg), self.gaze(eye.flatten(1))
            both = torch.cat([brain.relu_(), gaze.mul_(0)], 1)
            return self.classifier(self.mix(both))

    plain, in_place = lab(), lab(InPlace())
    in_place.load_state_dict(plain.state_dict())
    expected, found = (model(*batch_for()) for model in (plain, in_place))
    assert torch.equal(expected["eeg"], found["eeg"]) and found["eeg"].min() < 0
    assert torch.equal(expected["eye"], found["eye"])


def test_one_modality_may_be_the_fusion():
    network = nn.Sequential(nn.Conv1d(4, 3, 1), nn.Tanh(), nn.Conv1d(3, 2, 1))
    layers = {"eeg": "1", "fusion": "1"}
    found = lab(network, {"eeg": EEG}, branches=layers)(*batch_for({"eeg": EEG}))
    assert found["eeg"].shape == (4, 9) and torch.equal(found["eeg"], found[FUSION])
    other = lab(network, {"eeg": EEG}, branches={"eeg": "1", "fusion": "2"})
    found = other(*batch_for({"eeg": EEG}))
    assert found["eeg"].shape == (4, 9) and found[FUSION].shape == (4, 6)


# ------------------------------------------------------------------ what it is shown


class Ear(nn.Module):
    """Remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.heard = []

    def forward(self, *signals, **named):
        self.heard.append((signals, named))
        return self.scale * sum(each.flatten(1).sum(1) for each in signals)


def heard(arrange, length, time=5):
    """What a network is given of a batch that lost nothing."""
    layers = {"eeg": "", "fusion": ""}
    model = lab(Ear(), {"eeg": EEG}, branches=layers, arrange=arrange, length=length)
    signals, masks = batch_for({"eeg": EEG}, time=time)
    model(signals, {"eeg": torch.ones_like(masks["eeg"])})
    return signals["eeg"], model.network.heard[-1][0][0]


def test_ready_made_arrangements_against_loops():
    given, found = heard(as_windows, 1)
    assert torch.equal(found, torch.stack([w for sample in given for w in sample]))
    for arrange in (as_sequences, as_signals):
        given, found = heard(arrange, 5)
        for sample in range(4):
            for step in range(5):
                for channel in range(4):
                    for feature in range(3):
                        value = given[sample, step, channel, feature]
                        place = (
                            (sample, step, 3 * channel + feature)
                            if arrange is as_sequences
                            else (sample, channel, 3 * step + feature)
                        )
                        assert found[place] == value


def test_a_network_always_sees_runs_of_its_length():
    given, found = heard(as_sequences, 2)
    assert found.shape == (12, 2, 12)
    for sample in range(4):
        first = 3 * sample
        assert torch.equal(found[first], given[sample, :2].flatten(1))
        assert torch.equal(found[first + 2, 0], given[sample, 4].flatten())
        assert not found[first + 2, 1].any()


def test_a_run_counts_where_its_modality_was_recorded():
    layers = {"eeg": "", "fusion": ""}
    options = {"branches": layers, "arrange": as_sequences, "length": 2}
    model = lab(Ear(), {"eeg": EEG}, **options)
    signals, masks = batch_for({"eeg": EEG}, time=4)
    masks["eeg"] = torch.tensor(
        [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    ).bool()
    found = model(signals, masks)["eeg"].squeeze(1)
    total = signals["eeg"].sum((2, 3))
    expected = [total[0].sum() / 2, total[1, 0], total[2, 3], torch.tensor(0.0)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_own_arrangements_and_their_masks():
    class Choosy(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(3, 2)

        def forward(self, x, *, mask):
            return self.map(x.mean(1)) * mask.sum(1, keepdim=True)

    def named(signals, masks):
        return {"x": signals["eeg"].mean(1), "mask": masks["eeg"]}

    layers = {"eeg": "", "fusion": ""}
    model = lab(Choosy(), {"eeg": EEG}, branches=layers, arrange=named, length=5)
    signals, masks = batch_for({"eeg": EEG})
    there = masks["eeg"]
    seen = torch.where(there[..., None, None], signals["eeg"], 0.0).mean((1, 2))
    expected = model.network.map(seen) * there.sum(1, keepdim=True)
    torch.testing.assert_close(model(signals, masks)["eeg"], expected)
    alone = lab(
        nn.Flatten(),
        {"eeg": EEG},
        branches=layers,
        arrange=lambda signals, masks: signals["eeg"],
    )
    assert alone(signals, masks)["eeg"].shape == (4, 12)


def test_samplings():
    assert isinstance(lab().sampling, Windows)
    flat = {"branches": {"eeg": "", "fusion": ""}, "arrange": as_sequences}
    runs = lab(nn.Flatten(), {"eeg": EEG}, length=4, **flat)
    assert isinstance(runs.sampling, Sequences) and runs.sampling.length == 4
    trials = Trials()
    assert lab(sampling=trials).sampling is trials


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.BatchNorm1d])
def test_padding_changes_nothing(norm, training):
    model = lab(Lab(norm=norm)).train(training)
    other = copy.deepcopy(model)
    signals, masks = batch_for()
    pad = nn.functional.pad
    longer = {n: pad(s, (0, 0, 0, 0, 0, 3), value=9.0) for n, s in signals.items()}
    found = model(signals, masks)
    padded = other(longer, {n: pad(m, (0, 3)) for n, m in masks.items()})
    for branch, value in found.items():
        torch.testing.assert_close(value, padded[branch], rtol=0, atol=1e-7)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


# --------------------------------------------------------------- batch normalisation


def test_statistics_come_from_recorded_windows_alone():
    model = lab(Lab(norm=nn.BatchNorm1d)).train()
    reference = copy.deepcopy(model.network)
    signals, masks = batch_for()
    masks["eye"][2, 0] = False
    rows = [
        shown(signals, masks, sample, step)
        for sample in range(4)
        for step in range(5)
        if masks["eeg"][sample, step] or masks["eye"][sample, step]
    ]
    reference(torch.cat([row[0] for row in rows]), torch.cat([r[1] for r in rows]))
    found = model(signals, masks)
    norm, expected = model.network.brain[2], reference.brain[2]
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, expected.running_mean)
    torch.testing.assert_close(norm.running_var, expected.running_var)
    sum(value.square().sum() for value in found.values()).backward()
    assert all(p.grad.any() for p in model.network.parameters() if p.requires_grad)


def test_layers_that_alone_are_in_training_mode_see_recorded_windows_alone():
    """As test-time adaptation has it: all but batch normalisation in evaluation."""
    model, alike = lab(Lab(norm=nn.BatchNorm1d)), lab(Lab(norm=nn.BatchNorm1d)).train()
    alike.load_state_dict(model.state_dict())
    signals, masks = batch_for()
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm1d)]
    for each in norms:
        each.train()
    assert not model.training
    found, expected = model(signals, masks), alike(signals, masks)
    assert all(torch.equal(found[branch], expected[branch]) for branch in found)
    states = model.state_dict(), alike.state_dict()
    assert norms and all(torch.equal(v, states[1][n]) for n, v in states[0].items())


@pytest.mark.parametrize("recorded", [0, 1])
def test_too_few_windows_leave_the_statistics_alone(recorded):
    model = lab(Lab(norm=nn.BatchNorm1d))
    signals, masks = batch_for()
    masks = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    masks["eeg"][0, :recorded] = True
    expected = model(signals, masks)
    before = copy.deepcopy(model.state_dict())
    found = model.train()(signals, masks)
    for branch, value in found.items():
        assert torch.equal(value, expected[branch])
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert model.network.brain[2].training


def test_a_prediction_does_not_depend_on_its_batch():
    model = lab(Lab(norm=nn.BatchNorm1d))
    signals, masks = batch_for()
    together = model(signals, masks)
    for i in range(4):
        one = slice(i, i + 1)
        alone = model(
            {n: s[one] for n, s in signals.items()},
            {n: m[one] for n, m in masks.items()},
        )
        for branch, value in alone.items():
            torch.testing.assert_close(value, together[branch][one], rtol=0, atol=1e-6)


# ----------------------------------------------------------------- hooks, copies, vmap


def test_no_hook_outlives_a_call():
    class Fails(Lab):
        fails = False

        def forward(self, eeg, eye):
            if self.fails:
                self.brain(eeg)
                raise RuntimeError("out of memory")
            return super().forward(eeg, eye)

    model, (signals, masks) = lab(Fails()), batch_for()
    own = model.network.mix.register_forward_hook(lambda m, i, o: o * 2)
    doubled = model(signals, masks)
    own.remove()
    assert not hooks_of(model)
    plain = model(signals, masks)
    torch.testing.assert_close(doubled[FUSION], 2 * plain[FUSION])
    model.network.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        model(signals, masks)
    assert not hooks_of(model)
    model.network.fails = False
    assert torch.equal(model(signals, masks)[FUSION], plain[FUSION])


def test_a_copy_reads_its_own_network():
    model, batch = lab(), batch_for()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.network.gaze.weight.zero_()
        twin.network.gaze.bias.zero_()
    assert not twin(*batch)["eye"].any() and model(*batch)["eye"].any()


def test_two_calls_in_one_graph_add_their_gradients():
    model, (signals, masks) = lab(), batch_for()
    others = {name: signal + 1 for name, signal in signals.items()}

    def gradients(*batches):
        model.zero_grad()
        found = [model(batch, masks) for batch in batches]
        sum(v.square().sum() for each in found for v in each.values()).backward()
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]

    first, second, both = (
        gradients(signals),
        gradients(others),
        gradients(signals, others),
    )
    for a, b, together in zip(first, second, both, strict=True):
        torch.testing.assert_close(a + b, together)


def test_stacked_networks_equal_a_loop():
    models = [lab(Lab()) for _ in range(3)]
    for number, model in enumerate(models):
        with torch.no_grad():
            model.network.mix.bias += number
    signals, masks = batch_for()
    several = {n: torch.stack([s, s + 1, s * 2]) for n, s in signals.items()}
    parameters, buffers = stack_module_state(models)
    skeleton = models[0]

    def run(parameters, buffers, signals):
        return functional_call(skeleton, (parameters, buffers), (signals, masks))

    found = vmap(run)(parameters, buffers, several)
    for i, model in enumerate(models):
        expected = model({n: s[i] for n, s in several.items()}, masks)
        for branch, value in expected.items():
            torch.testing.assert_close(value, found[branch][i])
    assert not hooks_of(skeleton)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("layer", ["layers.0.linear1", "layers.1", "layers.1.norm1"])
def test_torchs_transformer_is_read_on_its_fast_path_too(layer, grad):
    transformer = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), 2
    )
    layers = {"eeg": layer, "fusion": ""}
    options = {"branches": layers, "arrange": as_sequences, "length": 5}
    model = lab(transformer, {"eeg": EEG}, **options)
    signals, masks = batch_for({"eeg": EEG})
    with torch.set_grad_enabled(grad):
        found = model(signals, masks)
    assert found["eeg"].shape[1] % 5 == 0 and found["eeg"].any()


# --------------------------------------------------------------- weights and training


def test_parameters_keep_their_names():
    plain = Lab()
    assert set(lab().state_dict()) == {f"network.{n}" for n in plain.state_dict()}
    model = lab(plain)
    plain.load_state_dict(Lab().state_dict())
    assert all(
        torch.equal(model.state_dict()[f"network.{n}"], v)
        for n, v in plain.state_dict().items()
    )


def test_what_no_branch_depends_on_is_frozen():
    network = Lab()
    network.gaze.requires_grad_(False)
    network.train()
    frozen = {n for n, p in lab(network).named_parameters() if not p.requires_grad}
    names = ("gaze.weight", "gaze.bias", "classifier.weight", "classifier.bias")
    assert frozen == {f"network.{name}" for name in names}
    without = lab(Lab(), branches={**BRANCHES, "fusion": ""})
    assert all(p.requires_grad for p in without.parameters())


def test_building_draws_no_random_numbers_and_keeps_the_mode():
    class Noisy(nn.Module):
        def forward(self, values):
            return values + torch.rand_like(values)

    network = nn.Sequential(nn.Flatten(), Noisy(), nn.Linear(12, 2))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    model = Wrapped({"eeg": EEG}, network, branches={"eeg": "2", "fusion": "2"})
    assert torch.equal(torch.rand(3), expected)
    assert model.training and network.training and network[1].training


# ---------------------------------------------------------------------------- errors


class Twice(Lab):
    def forward(self, eeg, eye):
        return super().forward(eeg, eye + self.gaze(eye.flatten(1)).mean())


class Tuples(Lab):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)

    def forward(self, eeg, eye):
        states, _ = self.gru(eeg)
        return super().forward(eeg + states.mean(), eye)


class TimeFirst(Lab):
    def __init__(self):
        super().__init__()
        self.gru = nn.Linear(3, 4)

    def forward(self, eeg, eye):
        return super().forward(eeg + self.gru(eeg.transpose(0, 1)).mean(), eye)


class Decides(Lab):
    def __init__(self):
        super().__init__()
        self.most = nn.Identity()

    def forward(self, eeg, eye):
        return self.most(super().forward(eeg, eye).argmax(1))


class Narrow(Lab):
    def forward(self, eeg, eye):
        return super().forward(eeg[:, 1:], eye)


class Mixed(Lab):
    def forward(self, eeg, eye):
        return super().forward(eeg, eye + eeg.mean())


def layers(**changed):
    return {"branches": {**BRANCHES, **changed}}


@pytest.mark.parametrize(
    ("network", "options", "sentence"),
    [
        (Lab, layers(eye="gase"), r"'eye' at 'gase', but Lab .*nearest are 'gaze'"),
        (Lab, layers(eye="input of gase"), "no such layer; the nearest are 'gaze'"),
        (Lab, layers(eye="gaze.weight"), "'gaze.weight', but Lab has no such layer"),
        (Lab, layers(eye="mix"), "'eye' and 'fusion' at one layer, 'mix'"),
        (Lab, layers(eye="brain.1"), r"'brain\.1', read as 'eye', also sees 'eeg'"),
        (Lab, layers(eye="classifier"), "read as 'eye', also sees 'eeg'"),
        (Mixed, {}, "'gaze', read as 'eye', also sees 'eeg'"),
        (Twice, {}, "the layer 'gaze' of Twice, read as 'eye', was called 2 times"),
        (Tuples, layers(eeg="gru"), "gave tuple; expected one tensor.*'input of'"),
        (TimeFirst, layers(eeg="gru"), r"shape \(4, 3, 4\) for a batch of 3"),
        (Decides, layers(fusion="most"), r"gave torch\.int64"),
        (Lab, {"branches": {"eeg": "gaze"}}, "recordings have eeg, eye. Expected one"),
        (Lab, {"branches": {}}, "branches none; .*one for 'fusion'"),
        (Lab, layers(heart="mix"), "eeg, eye, fusion, heart; .*--modalities"),
        (Lab, {"length": 0}, "Wrapped: length=0"),
        (Lab, {"length": 2}, r"as_windows.*length=2; leave length at 1"),
        (Narrow, {}, r"eeg \(3, 1, 4, 3\), eye .*as_windows: RuntimeError: mat1"),
        (Lab, {"arrange": lambda s, m: {"eeg": 1}}, "Lab failed on .*TypeError"),
    ],
)
def test_mistakes_are_explained_when_the_network_is_built(network, options, sentence):
    built = network()
    with pytest.raises(ConfigurationError, match=sentence):
        lab(built, **options)
    assert not hooks_of(built)


def test_a_layer_that_is_never_called_names_those_inside_it():
    class Unused(Lab):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

    with pytest.raises(ConfigurationError, match=r"not called.*as 'blocks\.0', 'bl"):
        lab(Unused(), **layers(fusion="blocks"))


def test_statistics_of_the_batch_alone_are_refused():
    network = Lab(norm=lambda width: nn.BatchNorm1d(width, track_running_stats=False))
    with pytest.raises(ConfigurationError, match=r"'brain\.2' has track_running_stat"):
        lab(network)


def test_sizes_of_what_was_not_recorded():
    assert size_of(BOTH, "eeg") == (4, 3)
    with pytest.raises(ConfigurationError, match=r"called 'ecg', .* have eeg, eye"):
        size_of(BOTH, "ecg")
    with pytest.raises(ConfigurationError, match="have none"):
        size_of({}, "eeg")


# --------------------------------------------------------------------- shipped checks


class LabBackbone(Wrapped):
    """The lab's network."""

    def __init__(self, modalities, *, width=6, norm="layer"):
        norms = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
        network = Lab(width, norms[norm])
        super().__init__(modalities, network, branches=BRANCHES)
        self.width, self.norm = width, norm


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=f"{norm}-{each.name}")
        for norm in ("layer", "batch")
        for each in checks(LabBackbone, options={"norm": norm}, sensors=[BOTH])
    ],
)
def test_contract(check):
    check()


def test_raw_signals_pass_the_shipped_checks():
    class Raw(Wrapped):
        def __init__(self, modalities, *, width=4):
            channels, samples = size_of(modalities, "eeg")
            network = nn.Sequential(
                nn.Conv1d(channels, width, 3, bias=False),
                nn.BatchNorm1d(width),
                nn.ELU(),
                nn.Flatten(),
                nn.Linear(width * (4 * samples - 2), 5),
            )
            branches = {"eeg": "3", "fusion": "4"}
            super().__init__(
                modalities, network, branches=branches, arrange=as_signals, length=4
            )

    check(Raw, sensors=[{"eeg": EEG}])


# ---------------------------------------------------------------- the page, plug-ins


class ContinuousTransformerWrapper(nn.Module):
    """Stands in for the library's class where that is not installed."""

    def __init__(self, *, dim_in, dim_out, max_seq_len, attn_layers):
        super().__init__()
        self.project_in = nn.Linear(dim_in, attn_layers.norm.normalized_shape[0])
        self.place = nn.Parameter(0.02 * torch.randn(max_seq_len, 1))
        self.attn_layers = attn_layers
        self.project_out = nn.Linear(*attn_layers.norm.normalized_shape, dim_out)
        self.to_logits = nn.Linear(dim_out, 7)

    def forward(self, x):
        x = self.attn_layers(self.project_in(x) + self.place)
        return self.to_logits(self.project_out(x))


class Encoder(nn.Module):
    """Stands in for the library's class where that is not installed."""

    def __init__(self, *, dim, depth, heads):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x).tanh() + x.mean(1, keepdim=True)
        return self.norm(x)


@pytest.fixture
def own_registry(monkeypatch):
    """Forget what a test registers, but nothing of the package's own."""
    classes = dict(registry._classes)
    monkeypatch.setattr(registry, "_classes", classes)
    yield
    package = {
        k: c for k, c in classes.items() if c.__module__.startswith("domainemo.")
    }
    monkeypatch.undo()
    registry._classes.update(package)


def page_blocks():
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run_page(monkeypatch):
    module = types.ModuleType("page_of_the_own_network")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in page_blocks():
        exec(compile(block, str(PAGE), "exec"), vars(module))
    return module


def test_the_page_runs_with_a_network_written_by_hand(
    own_registry, monkeypatch, capsys
):
    stand_in = types.ModuleType("x_transformers")
    stand_in.ContinuousTransformerWrapper = ContinuousTransformerWrapper
    stand_in.Encoder = Encoder
    monkeypatch.setitem(sys.modules, "x_transformers", stand_in)
    module = run_page(monkeypatch)
    assert choices_of(RunChoices)["adapter"].default in capsys.readouterr().out
    model = module.Electrodes({"eeg": EEG})
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"network.to_logits.weight", "network.to_logits.bias"}
    assert model(*batch_for({"eeg": EEG}))["eeg"].shape == (4, 4 * 8)


@pytest.mark.skipif(
    importlib.util.find_spec("x_transformers") is None,
    reason="x-transformers is not installed",
)
# The library uses torch.jit, which torch has announced to drop.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_runs_with_the_library_it_names(own_registry, monkeypatch, capsys):
    module = run_page(monkeypatch)
    assert choices_of(RunChoices)["adapter"].default in capsys.readouterr().out
    model = module.Electrodes({"eeg": EEG}).eval()
    signals, masks = whole_windows({"eeg": EEG})
    expected = model.network(signals["eeg"][:, 0]).flatten(1)
    torch.testing.assert_close(model(signals, masks)["eeg"], expected)


def test_the_page_names_layers_and_arrangements_that_exist():
    text = PAGE.read_text(encoding="utf-8")
    for name in ("as_windows", "as_sequences", "as_signals", "size_of"):
        assert name in text
    assert "--plugin electrodes.py --backbone electrodes" in text


PLUGIN = """
import torch
from torch import nn

from domainemo import register
from domainemo.backbones.wrapper import Wrapped, size_of


class Net(nn.Module):
    def __init__(self, brain, gaze, width):
        super().__init__()
        self.brain = nn.Sequential(nn.Linear(brain, width), nn.BatchNorm1d(width))
        self.gaze = nn.Linear(gaze, width)
        self.mix = nn.Linear(2 * width, width)

    def forward(self, eeg, eye):
        both = (self.brain(eeg.flatten(1)), self.gaze(eye.flatten(1)))
        return self.mix(torch.cat(both, 1))


@register
class MyNet(Wrapped):
    \"\"\"The lab's network.\"\"\"

    def __init__(self, modalities, *, width: int = 8):
        channels, bands = size_of(modalities, "eeg")
        measures, features = size_of(modalities, "eye")
        network = Net(channels * bands, measures * features, width)
        layers = {"eeg": "brain", "eye": "gaze", "fusion": "mix"}
        super().__init__(modalities, network, branches=layers)
        self.width = width
"""


def test_a_plug_in_of_one_file_runs_here_and_in_worker_processes(
    tmp_path, own_registry, two_processes, monkeypatch, capsys
):
    path = tmp_path / "my_net.py"
    path.write_text(PLUGIN, encoding="utf-8")
    command = (
        "adapt --plugin=my_net.py --backbone=my-net --no-baselines --jobs=2 "
        "--set=data.subjects=3 --set=data.sessions=1 --set=data.trials=6 "
        "--set=data.windows=[3,4] --set=backbone.width=6 --epochs=2 --output=run"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["domainemo", *command.split()])
    asked = []
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(
            "domainemo.processes.process_pool",
            lambda workers: asked.append(workers) or nullcontext(two_processes),
        )
        main()
    assert ended.value.code == 0, capsys.readouterr().err
    assert asked == [2]
    # From Python the class says itself which file a process that lacks it must load.
    with process_pool(1) as pool:
        de.run(
            de.Simulated(subjects=3, sessions=1, trials=6, windows=(3, 4)).load(),
            backbone=find("backbone", "my-net"),
            options={"backbone.width": 6, "training.epochs": 2},
            baselines=False,
            output="other",
            executor=pool,
        )
    assert tomllib.loads(Path("other/config.toml").read_text())["plugins"] == [
        str(path)
    ]
    files = sorted(Path("run").rglob("model.safetensors"))
    assert len(files) == 3
    for file in files:
        twin = Path("other", file.relative_to("run"))
        assert file.read_bytes() == twin.read_bytes()
