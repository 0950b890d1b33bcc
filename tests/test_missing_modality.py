"""Missing modalities: dropped in training, or lost by subjects, windows, recordings."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from fitted import fit

import domainemo as de
from domainemo.adapters.none import SourceOnly
from domainemo.backbones.concatenation import Concatenation
from domainemo.backbones.uf_ama import UFAMA
from domainemo.cli import main
from domainemo.controls.logistic_regression import LogisticRegression
from domainemo.core import FUSION
from domainemo.data.matching import match
from domainemo.data.normalisation import learned_of, normalise
from domainemo.errors import ConfigurationError, DataError, DomainemoWarning
from domainemo.parts import Part
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import entries, find
from domainemo.runs.checks import canonical
from domainemo.runs.controls import control_probabilities
from domainemo.runs.experiment import experiment
from domainemo.runs.model import Model, find_all_trained
from domainemo.runs.record import load_record
from domainemo.testing import FirstFold
from domainemo.training import fit as fitting
from domainemo.training import loop
from domainemo.training.batches import LabelledSamples, majority_label, sample
from domainemo.training.checkpoint import Checkpoint
from domainemo.training.dropout import drop_modalities, without_one
from domainemo.training.fit import predict, scores
from domainemo.training.model import Network
from domainemo.training.seeds import reproducible
from domainemo.training.settings import Training

torch.set_num_threads(1)
TINY = {"backbone.width": 8, "backbone.heads": 2}
EPOCHS = 2


# --------------------------------------------------------------------------- a batch


def batch(samples, modalities=3, time=4, seed=0):
    """Samples with gaps, some of a single modality, some of none."""
    generator = torch.Generator().manual_seed(seed)
    masks, signals = {}, {}
    for number in range(modalities):
        gone = torch.rand(samples, 1, generator=generator) < 0.3
        windows = torch.rand(samples, time, generator=generator) < 0.7
        masks[f"m{number}"] = windows & ~gone
        signals[f"m{number}"] = torch.randn(samples, time, 2, 3, generator=generator)
    return signals, masks


def had(masks):
    return torch.stack([mask.any(-1) for mask in masks.values()])


def drawn(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("probability", [0.1, 0.3, 1.0])
def test_the_share_dropped_is_the_probability(probability):
    signals, masks = batch(20_000)
    _, kept = drop_modalities((signals, masks), probability, drawn())
    before, after = had(masks), had(kept)
    several = before.sum(0) > 1
    lost = (before & ~after).sum(0)
    assert lost.max() == 1 and not lost[~several].any()
    count, hits = int(several.sum()), int(lost.sum())
    # Five standard deviations of a binomial share.
    width = 5 * (probability * (1 - probability) / count) ** 0.5
    assert abs(hits / count - probability) <= width
    # Each of those it has is as likely: chi-square by which modalities there were.
    for pattern in product([False, True], repeat=3):
        if sum(pattern) < 2:
            continue
        rows = (before == torch.tensor(pattern)[:, None]).all(0)
        shares = (before & ~after)[:, rows].sum(1).double()
        expected = shares.sum() / sum(pattern)
        chi = ((shares - expected).square() / expected)[torch.tensor(pattern)].sum()
        assert chi < 20  # p = 5e-5 with two degrees of freedom


def test_what_is_kept_stays_as_it_was():
    signals, masks = batch(500)
    copies = {name: mask.clone() for name, mask in masks.items()}
    seen, kept = drop_modalities((signals, masks), 0.5, drawn())
    assert list(seen) == list(signals) and list(kept) == list(masks)
    for name, mask in masks.items():
        assert torch.equal(mask, copies[name])
        assert kept[name].shape == mask.shape and kept[name].dtype == torch.bool
        whole = mask.any(-1) & ~kept[name].any(-1)
        assert torch.equal(kept[name], mask & ~whole[:, None])
        wanted = signals[name] * kept[name][..., None, None]
        assert torch.equal(seen[name], wanted)
    assert had(kept).any(0).equal(had(masks).any(0))


def test_equals_a_loop_over_samples():
    _, masks = batch(200, modalities=4)
    generator = drawn()
    losing = torch.rand(200, generator=generator) < 0.6
    choice = torch.rand(200, generator=generator)
    choice[0] = choice[1] = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    found = without_one(masks, losing, choice)
    for row in range(200):
        there = [name for name, mask in masks.items() if bool(mask[row].any())]
        lost = None
        if len(there) > 1 and losing[row]:
            lost = there[min(int(float(choice[row]) * len(there)), len(there) - 1)]
        for name, mask in masks.items():
            expected = torch.zeros(4, dtype=torch.bool) if name == lost else mask[row]
            assert torch.equal(found[name][row], expected)


def test_a_choice_just_below_one_still_chooses():
    """5 x 0.99999994 is 5 in single precision."""
    masks = {str(number): torch.ones(1, 2, dtype=torch.bool) for number in range(5)}
    choice = torch.nextafter(torch.ones(1), torch.zeros(1))
    found = without_one(masks, torch.tensor([True]), choice)
    assert [bool(mask.any()) for mask in found.values()] == [True] * 4 + [False]


def test_vectorises_over_a_population():
    populations = [batch(16, seed=seed)[1] for seed in range(3)]
    stacked = {n: torch.stack([m[n] for m in populations]) for n in populations[0]}
    losing, choice = torch.rand(3, 16) < 0.5, torch.rand(3, 16)
    together = torch.func.vmap(without_one)(stacked, losing, choice)
    leading = without_one(stacked, losing, choice)
    for number, masks in enumerate(populations):
        alone = without_one(masks, losing[number], choice[number])
        for name, mask in alone.items():
            assert torch.equal(together[name][number], mask)
            assert torch.equal(leading[name][number], mask)


def test_nothing_is_drawn_where_nothing_can_be_lost():
    generator = drawn()
    before = generator.get_state()
    whole, single = batch(8), batch(8, modalities=1)
    assert drop_modalities(whole, 0.0, generator) is whole
    assert drop_modalities(single, 1.0, generator) is single
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"modality_dropout.*(0, 1|finite)"):
        Training(modality_dropout=value)


# -------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def data():
    data = de.Simulated(
        subjects=3, sessions=2, trials=3, windows=(3, 5), missing=0.0
    ).load()
    return data.take(canonical(data.inputs))


def losing(data, lost, *, subject=None, windows=None):
    """Return the recordings without modalities, for a subject or for some windows."""
    rows = np.ones(len(data), dtype=bool)
    if subject is not None:
        rows &= data.inputs.windows["subject"].to_numpy() == subject
    if windows is not None:
        rows &= np.isin(np.arange(len(data)), windows)
    signals = dict(data.inputs.signals)
    for name in lost:
        signals[name] = signals[name].copy()
        signals[name][rows] = np.nan
    inputs = dataclasses.replace(data.inputs, signals=signals)
    return dataclasses.replace(data, inputs=inputs)


def samples_of(data, modalities=("eeg", "eye")):
    """The first fold, normalised and sampled: source and target."""
    inputs = dataclasses.replace(
        data.inputs,
        signals={name: data.inputs.signals[name] for name in modalities},
        modalities={name: data.inputs.modalities[name] for name in modalities},
    )
    fold = next(iter(CrossSubject().split(inputs.windows)))
    inputs, _ = normalise(inputs, "session", source=fold.source, target=fold.target)
    sampling = UFAMA(inputs.modalities).sampling
    source, members = sample(inputs, fold.source, sampling, torch.device("cpu"))
    target, _ = sample(inputs, fold.target, sampling, torch.device("cpu"))
    labels = torch.from_numpy(majority_label(members, data.labels))
    labelled = LabelledSamples(source, labels, torch.zeros_like(labels))
    return labelled, target, inputs.modalities


class Killed(Exception):
    pass


def train(data, dropout, *, modalities=("eeg", "eye"), seed=5, **others):
    source, target, described = samples_of(data, modalities)
    choices = {"adapter": "uf-ama", "checkpoint": None, "kill_after": None} | others

    def report(row):
        if row["epoch"] == choices["kill_after"]:
            raise Killed

    with reproducible(1):
        torch.manual_seed(0)
        model = Network(UFAMA(described, width=8), described, len(data.classes))
        adapter = find("adapter", choices["adapter"])()
        start = {name: value.clone() for name, value in model.state_dict().items()}
        fitted = fit(
            model,
            adapter,
            source,
            target,
            validator=find("validator", "last")(),
            held_out=None,
            training=Training(
                epochs=EPOCHS,
                batch_size=8,
                modality_dropout=dropout,
                weight_decay=choices.get("weight_decay", 0.01),
            ),
            seed=seed,
            checkpoint=choices["checkpoint"] and Checkpoint(choices["checkpoint"]),
            report=report,
        )
        return model, fitted, predict(model, adapter, target), start


def assert_same(first, second, *, same=True):
    a, b = first[0].state_dict(), second[0].state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a) == same
    assert np.array_equal(first[2], second[2]) == same
    assert (first[1].history == second[1].history) == same


def test_training_repeats_by_its_seed(data):
    first, again = train(data, 0.5), train(data, 0.5)
    assert_same(first, again)
    assert_same(first, train(data, 0.5, seed=6), same=False)
    assert_same(first, train(data, 0.0), same=False)


def test_a_killed_training_ends_with_the_same_bits(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        train(data, 0.5, checkpoint=path, kill_after=2)
    assert path.exists()
    assert_same(train(data, 0.5), train(data, 0.5, checkpoint=path))


def test_a_single_modality_is_never_dropped(data):
    """Nor is a random number drawn for it: the same bits as without dropout."""
    alone = [train(data, share, modalities=("eeg",)) for share in (0.0, 1.0)]
    assert_same(*alone)


def test_who_sees_what(data, monkeypatch):
    """Source and target batches are dropped from; who judges and evaluates, not."""
    training, others = [], []
    forward = Network.forward

    def record(self, signals, masks):
        (training if self.training else others).append(had(masks))
        return forward(self, signals, masks)

    monkeypatch.setattr(Network, "forward", record)
    train(data, 1.0)
    source, target, _ = samples_of(data)
    steps = EPOCHS * (len(source) // 8)
    # Source and target pass at once, from where the target's terms count on.
    late = [step / steps >= 1 / 3 for step in range(steps)]
    assert [there.shape[1] for there in training] == [8 + 8 * each for each in late]
    assert all((there.sum(0) == 1).all() for there in training)
    # The teacher in every such step, the validator after every epoch, the prediction;
    # the judge in every step from 0.6 of training on, and after the last epoch.
    judged = sum(step / steps >= 0.6 for step in range(steps)) + 1
    assert len(others) == sum(late) + EPOCHS + 1 + judged and len(target) < 256
    assert all(there.all() for there in others)


def test_dropout_leaves_the_batches_as_they_are(data, monkeypatch):
    """The order of samples is that of a training without dropout."""
    drawn = {}
    draw = fitting.epoch_batches
    for share in (0.0, 0.7):
        batches = drawn[share] = []

        def record(*arguments, into=batches):
            found = list(draw(*arguments))
            into.extend(found)
            return iter(found)

        monkeypatch.setattr(fitting, "epoch_batches", record)
        train(data, share)
    for (here, there), (other, another) in zip(*drawn.values(), strict=True):
        assert torch.equal(here, other) and torch.equal(there, another)


def test_without_dropout_no_random_number_is_drawn_for_it(data, monkeypatch):
    monkeypatch.setattr(torch, "rand", None)  # of a generator, as dropout does
    train(data, 0.0)
    with pytest.raises(TypeError):
        train(data, 0.1)


@pytest.mark.parametrize("adapter", ["none", "uf-ama"])
@pytest.mark.parametrize("lost", ["eeg", "eye"])
def test_a_missing_modality_takes_no_part_in_the_losses(data, adapter, lost):
    """Nobody has it: its encoder and its head stay as they were drawn."""
    model, fitted, probabilities, start = train(
        losing(data, [lost]), 0.5, adapter=adapter, weight_decay=0.0
    )
    assert np.isfinite(probabilities).all()
    assert all(np.isfinite(list(epoch.values())).all() for epoch in fitted.history)
    after = model.state_dict()
    other = "eeg" if lost == "eye" else "eye"
    places = {"eeg": 0, "eye": 1}
    for name, value in start.items():
        if name.startswith((f"heads.{lost}.", f"backbone.encoders.{places[lost]}.")):
            assert torch.equal(after[name], value), name
    moved = [n for n in start if not torch.equal(after[n], start[n])]
    assert any(name.startswith(f"heads.{other}.") for name in moved)
    assert any(name.startswith(f"heads.{FUSION}.") for name in moved)


# --------------------------------------------------------------- subjects and windows


CASES = {
    "target without eye": {"lost": ["eye"], "subject": 1},
    "target without EEG": {"lost": ["eeg"], "subject": 1},
    "a source subject without eye": {"lost": ["eye"], "subject": 2},
    "some windows without eye": {"lost": ["eye"], "windows": np.arange(0, 200, 3)},
}


@pytest.mark.parametrize("backbone", ["r2gfanet", "uf-ama"])
@pytest.mark.parametrize("case", CASES)
def test_trains_adapts_and_predicts(data, backbone, case):
    results = de.run(
        losing(data, **CASES[case]),
        protocol=FirstFold(CrossSubject()),
        backbone=backbone,
        adapter="uf-ama",
        # The linear model has a test of its own below.
        baselines=False,
        training=Training(epochs=1, batch_size=8, modality_dropout=0.3),
        options=TINY,
        device="cpu",
    )
    columns = [name for name in results.predictions if name.startswith("p_")]
    found = results.predictions[columns].to_numpy()
    assert set(results.predictions["subject"]) == {1}
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("method", ["session", "subject", "source", "none"])
def test_normalisation_of_a_modality_that_a_subject_lacks(data, method):
    """It stays missing; nobody else's values change but by the source's scale."""
    lacking = losing(data, ["eye"], subject=2)
    fold = next(iter(CrossSubject().split(data.inputs.windows)))
    found, scales = normalise(
        lacking.inputs, method, source=fold.source, target=fold.target
    )
    theirs = data.inputs.windows["subject"].to_numpy() == 2
    assert np.isnan(found.signals["eye"][theirs]).all()
    assert np.isfinite(found.signals["eye"][~theirs]).all()
    assert all(np.isfinite(s.mean).all() for s in scales.values())
    assert all((s.deviation > 0).all() for s in scales.values())
    # The same as if the subject had never been recorded.
    rest = np.flatnonzero(~theirs)
    inputs = data.inputs.take(rest)
    alone, _ = normalise(
        inputs,
        method,
        source=np.searchsorted(rest, fold.source[~theirs[fold.source]]),
        target=np.searchsorted(rest, fold.target),
    )
    np.testing.assert_array_equal(found.signals["eye"][rest], alone.signals["eye"])


def test_the_linear_model_takes_what_is_missing_as_the_mean(data):
    """Predicting without eye is predicting with the source's mean in its place."""
    fold = next(iter(CrossSubject().split(data.inputs.windows)))
    members = fold.test[:, None]

    def probabilities(recordings):
        inputs, _ = normalise(
            recordings.inputs, "session", source=fold.source, target=fold.target
        )
        labels = data.labels[fold.source]
        return inputs, control_probabilities(
            LogisticRegression(), inputs, "none", fold, fold.source, labels, members, 3
        )

    whole, _ = probabilities(data)
    _, found = probabilities(losing(data, ["eye"], subject=1))
    array = whole.signals["eye"].copy()
    array[fold.test] = array[fold.source].mean(0)
    filled = dataclasses.replace(whole, signals={**whole.signals, "eye": array})
    labels = data.labels[fold.source]
    expected = control_probabilities(
        LogisticRegression(), filled, "none", fold, fold.source, labels, members, 3
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


# ------------------------------------------------------------------------ prediction


@pytest.fixture(scope="module")
def trained(data):
    torch.manual_seed(0)
    chosen = experiment(backbone="uf-ama", options={"backbone.width": 8}, device="cpu")
    modalities = dict(data.inputs.modalities)
    model = Network(UFAMA(modalities, width=8), modalities, 3).eval()
    return Model(model, SourceOnly(), chosen, modalities, data.classes, {})


def only(inputs, *names):
    return dataclasses.replace(
        inputs,
        signals={name: inputs.signals[name] for name in names},
        modalities={name: inputs.modalities[name] for name in names},
    )


@pytest.fixture(scope="module")
def recording(data):
    return data.inputs.take(np.flatnonzero(data.inputs.windows["subject"] == 2))


@pytest.mark.parametrize("lost", ["eeg", "eye"])
def test_a_recording_without_the_modality_is_one_that_lost_every_window(
    trained, recording, data, lost
):
    kept = "eeg" if lost == "eye" else "eye"
    gone = np.full_like(recording.signals[lost], np.nan)
    emptied = dataclasses.replace(recording, signals={**recording.signals, lost: gone})
    with pytest.warns(DomainemoWarning, match=f"{lost} of the training is missing in"):
        expected = trained.predict(emptied)
    with pytest.warns(DomainemoWarning) as notes:
        found = trained.predict(only(recording, kept))
    pd.testing.assert_frame_equal(found, expected)
    (note,) = notes
    assert f"(the recording has {kept})" in str(note.message)
    assert f"rest on {kept} alone" in str(note.message)
    columns = [name for name in found if name.startswith("p_")]
    assert np.isfinite(found[columns].to_numpy()).all()
    # The other sensor still counts: two windows do not look alike.
    assert found[columns].drop_duplicates().shape[0] == len(recording)


def test_windows_without_the_modality_leave_the_others_as_they_are(trained, recording):
    """With the source's scale no window depends on another."""
    everything = np.arange(len(recording))
    stored = normalise(recording, "source", source=everything, target=everything)[1]
    source = Part("normalisation", "source")
    learned = learned_of(recording, source.build(), everything)
    chosen = dataclasses.replace(trained.experiment, normalisation=source)
    known = {"scales": stored, "learned": learned}
    model = dataclasses.replace(trained, experiment=chosen, **known)
    array = recording.signals["eye"].copy()
    array[::2] = np.nan
    partly = dataclasses.replace(recording, signals={**recording.signals, "eye": array})
    whole = model.predict(recording)
    found = model.predict(partly)
    with pytest.warns(DomainemoWarning):
        without = model.predict(only(recording, "eeg"))
    columns = [name for name in whole if name.startswith("p_")]
    for rows, expected in (
        (slice(1, None, 2), whole),
        (slice(0, None, 2), without),
    ):
        np.testing.assert_allclose(
            found[columns][rows], expected[columns][rows], atol=1e-6
        )


def test_two_subjects_of_whom_one_has_no_eye(trained, data):
    """No note: the modality is there. Each subject is predicted as if alone."""
    rows = np.flatnonzero(data.inputs.windows["subject"] > 1)
    both = losing(data, ["eye"], subject=3).inputs.take(rows)
    found = trained.predict(both)
    parts = []
    for subject in (2, 3):
        theirs = np.flatnonzero(both.windows["subject"] == subject)
        alone = both.take(theirs)
        if subject == 3:
            with pytest.warns(DomainemoWarning):
                parts.append(trained.predict(alone))
        else:
            parts.append(trained.predict(alone))
    columns = [name for name in found if name.startswith("p_")]
    expected = pd.concat(parts, ignore_index=True)
    np.testing.assert_allclose(found[columns], expected[columns], atol=1e-6)


def test_a_recording_of_other_sensors_alone_is_refused(trained, recording):
    other = dataclasses.replace(
        recording,
        signals={"gaze": recording.signals["eye"]},
        modalities={"gaze": recording.modalities["eye"]},
    )
    with pytest.raises(DataError, match=r"found the modalities gaze; expected .*eeg"):
        trained.predict(other)
    nothing = {name: np.full_like(a, np.nan) for name, a in recording.signals.items()}
    with pytest.raises(DataError, match="every value of eeg, eye is missing"):
        trained.predict(dataclasses.replace(recording, signals=nothing))


def rearranged(inputs, modality, channels, features, names=None):
    """Take channels and features by number, and call the channels otherwise."""
    here = inputs.modalities[modality]
    array = inputs.signals[modality][:, channels][:, :, features]
    names = names or [here.channels[number] for number in channels]
    described = dataclasses.replace(
        here,
        channels=tuple(names),
        features=tuple(here.features[number] for number in features),
    )
    return dataclasses.replace(
        inputs,
        signals={**inputs.signals, modality: array},
        modalities={**inputs.modalities, modality: described},
    )


@pytest.mark.parametrize("modality", ["eeg", "eye"])
def test_channels_and_features_are_found_by_name(trained, recording, modality):
    """In any order and beside others, to the bit."""
    expected = trained.predict(recording)
    _, channels, features = recording.signals[modality].shape
    draw = np.random.default_rng(0)
    other = rearranged(
        recording, modality, draw.permutation(channels), draw.permutation(features)
    )
    pd.testing.assert_frame_equal(trained.predict(other), expected)
    array, here = other.signals[modality], other.modalities[modality]
    more = dataclasses.replace(
        other,
        signals={**other.signals, modality: np.concatenate([array[:, :1], array], 1)},
        modalities={
            **other.modalities,
            modality: dataclasses.replace(here, channels=("HEO", *here.channels)),
        },
    )
    pd.testing.assert_frame_equal(trained.predict(more), expected)


def test_other_sensors_go_by_any_capitals(trained, recording):
    eye = recording.modalities["eye"].channels
    names = [name.upper() for name in eye]
    assert names != list(eye)
    other = rearranged(recording, "eye", range(len(eye)), [0], names)
    expected = trained.predict(recording)
    pd.testing.assert_frame_equal(trained.predict(other), expected)


def test_electrodes_go_by_old_names_and_any_capitals(trained, recording):
    expected = trained.predict(recording)
    names = recording.modalities["eeg"].channels
    old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
    called = [old.get(name, name.capitalize()) for name in names]
    assert set(old.values()) < set(called)
    order = np.arange(len(names))[::-1]
    named = [called[number] for number in order]
    other = rearranged(recording, "eeg", order, np.arange(5), named)
    pd.testing.assert_frame_equal(trained.predict(other), expected)


def test_a_channel_that_is_missing_or_there_twice_is_named(trained, recording):
    names = recording.modalities["eeg"].channels
    kept = [number for number, name in enumerate(names) if name not in ("CB1", "OZ")]
    for numbers, channels, said in (
        (
            kept,
            None,
            r"'eeg': channels of the training are missing.*: CB1, OZ; found .*leave",
        ),
        (
            [*range(62), 0],
            [*("T3" if name == "T7" else name for name in names), "t7"],
            r"found 'T3' and 't7', two spellings of one electrode",
        ),
    ):
        with pytest.raises(DataError, match=said):
            other = rearranged(recording, "eeg", numbers, np.arange(5), channels)
            trained.predict(other)
    few = rearranged(recording, "eeg", np.arange(62), [0, 1, 2, 4])
    with pytest.raises(
        DataError, match=r"features of the training are missing.*: beta;"
    ):
        trained.predict(few)
    eye = recording.modalities["eye"].channels
    other = rearranged(recording, "eye", range(1, len(eye)), [0])
    with pytest.raises(DataError, match=rf"'eye': channels .*: {eye[0]};"):
        trained.predict(other)


def test_electrodes_that_were_not_recorded_are_interpolated_and_told(
    trained, recording
):
    """As match makes them, whose own tests hold them against MNE."""
    names = recording.modalities["eeg"].channels
    kept = [number for number, name in enumerate(names) if name not in ("PZ", "OZ")]
    few = rearranged(recording, "eeg", kept, np.arange(5))
    whole = match(few, trained.modalities, wanted_of="the training").inputs
    with pytest.warns(DomainemoWarning, match="PZ, OZ of the training .*interpolated"):
        found = trained.predict(few)
    pd.testing.assert_frame_equal(found, trained.predict(whole))
    assert not found.equals(trained.predict(recording))


def test_samples_of_which_nothing_is_left_are_counted(trained, recording):
    signals = {name: array.copy() for name, array in recording.signals.items()}
    for array in signals.values():
        array[:2] = np.nan
    partly = dataclasses.replace(recording, signals=signals)
    told = "samples every modality is missing; what is predicted there rests on"
    with pytest.warns(DomainemoWarning, match=f"in 2 of {len(recording)} {told}"):
        trained.predict(partly)


def command(monkeypatch, capsys, *arguments):
    """Run the command line in this process; return its exit code and what it said."""
    monkeypatch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, " ".join(said.err.split())


@pytest.mark.filterwarnings("default::domainemo.errors.DomainemoWarning")
def test_the_command_line(data, tmp_path, monkeypatch, capsys):
    """Train with dropout, then predict from tables that lack a modality."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOMAINEMO_DATA", "")
    de.write_table(data, tmp_path / "whole")
    theirs = data.take(np.flatnonzero(data.inputs.windows["subject"] == 1)).inputs
    de.write_table(only(theirs, "eeg"), tmp_path / "eeg")
    gaze = {"gaze": theirs.signals["eye"]}, {"gaze": theirs.modalities["eye"]}
    other = dataclasses.replace(theirs, signals=gaze[0], modalities=gaze[1])
    de.write_table(other, tmp_path / "gaze")
    code, _, said = command(
        monkeypatch,
        capsys,
        *("adapt", "--dataset=whole", "--backbone=uf-ama", "--adapter=none"),
        *("--set=backbone.width=8", "--set=training.modality_dropout=0.5"),
        *("--no-baselines", "--epochs=1", "--jobs=1", "--output=run"),
    )
    assert code == 0, said
    stored = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert stored["options"]["training.modality_dropout"] == 0.5
    predicted = ("predict", "run", "--fold=subject 1")
    code, out, said = command(monkeypatch, capsys, *predicted, "--dataset=eeg")
    assert code == 0, said
    assert said.startswith("Note: ") and "eye of the training is missing" in said
    assert len(out.splitlines()) == 1 + len(theirs) and "nan" not in out
    code, out, said = command(
        monkeypatch, capsys, *predicted, "--dataset=table", "--data-root=eeg"
    )
    assert code == 0 and len(out.splitlines()) == 1 + len(theirs)
    code, out, said = command(monkeypatch, capsys, *predicted, "--dataset=gaze")
    assert code == 3 and not out
    assert "found the modalities gaze; expected at least one of" in said


# -------------------------------------------------------------------------- validators


# Which samples MixVal mixes depends on how many there are.
VALIDATORS = sorted({each.name for each in entries("validator")} - {"mixval"})


@pytest.mark.parametrize("name", VALIDATORS)
def test_what_no_sensor_recorded_says_nothing_of_a_network(data, name):
    """A constant opinion would hide a class that is never predicted, among others."""
    eeg = {"eeg": data.inputs.signals["eeg"].copy()}
    described = {"eeg": data.inputs.modalities["eeg"]}
    fold = next(iter(CrossSubject().split(data.inputs.windows)))
    lost = np.arange(len(data.inputs)) % 3 == 0
    eeg["eeg"][lost] = np.nan
    inputs = dataclasses.replace(data.inputs, signals=eeg, modalities=described)
    torch.manual_seed(3)
    model = Network(Concatenation(described, width=8), described, len(data.classes))
    # As a collapsed network is: sure of the last class wherever it sees something.
    with torch.no_grad():
        model.heads["fusion"][-1].bias.copy_(torch.tensor([-2.0, 0.0, 0.0]))
    validator = find("validator", name)()

    def told(keep):
        def drawn(rows):
            rows = rows[keep[rows]]
            samples, members = sample(inputs, rows, de.Windows(), torch.device("cpu"))
            labels = torch.from_numpy(majority_label(members, data.labels))
            return LabelledSamples(samples, labels, torch.zeros_like(labels))

        half = len(fold.source) // 2
        known = drawn(fold.source[:half]), drawn(fold.source[half:])
        target = drawn(fold.target).samples
        return scores(model, SourceOnly(), *known, target, {name: validator})[name]

    everything, recorded = told(np.ones(len(lost), dtype=bool)), told(~lost)
    assert everything.score == pytest.approx(recorded.score, rel=1e-6, abs=1e-9)
    if everything.evidence is not None:
        assert len(everything.evidence) == len(recorded.evidence)


def test_a_class_that_only_lost_samples_are_given_is_not_predicted(data, tmp_path):
    """The record tells selection and studies which classes a network predicts."""
    eeg = data.inputs.signals["eeg"].copy()
    eeg[::2] = np.nan
    inputs = dataclasses.replace(
        data.inputs,
        signals={"eeg": eeg},
        modalities={"eeg": data.inputs.modalities["eeg"]},
    )
    found = de.run(
        dataclasses.replace(data, inputs=inputs),
        adapter="none",
        backbone="concatenation-mlp",
        epochs=1,
        device="cpu",
        output=tmp_path / "run",
    )
    own = found.predictions.query("method == 'source only'")
    place = ["subject", "session", "trial", "start"]
    lost = set(data.inputs.windows.iloc[::2][place].itertuples(index=False, name=None))
    rows = own[place].itertuples(index=False, name=None)
    there = [row not in lost for row in rows]
    for job in find_all_trained(tmp_path / "run"):
        record = load_record(job)
        rows = own[np.array(there) & (own["fold"] == record.facts["fold"])]
        assert record.predicted == sorted(set(rows["predicted"]))
