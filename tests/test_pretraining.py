"""Pre-training: who is paired with whom, what it may see, and what starts from it."""

import json
import pickle
import shutil
import sys
import tomllib
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

import domainemo
from domainemo import ConfigurationError, DataError, Simulated, Training
from domainemo.backbones.r2gfanet import R2GFANet
from domainemo.cli import main
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.initialisation import check_initialisation, read_initialisation
from domainemo.runs.plan import labelled_rows, plan
from domainemo.runs.pretraining import plan_pretraining, pretraining
from domainemo.testing import FirstFold, checks
from domainemo.training import loop
from domainemo.training.pairs import Random, Synchronous

torch.set_num_threads(1)
TINY = {"backbone.width": 8, "backbone.heads": 2}
CHOICES = {"training": Training(epochs=2, batch_size=4), "options": TINY}


@pytest.fixture(scope="module")
def data():
    data = Simulated(subjects=4, sessions=2, trials=3, windows=(3, 5)).load()
    return data.take(canonical(data.inputs))


def pretrain(recordings, output, **changes):
    chosen = {**CHOICES, "device": "cpu", **changes}
    return domainemo.pretrain(recordings, output=output, **chosen)


def run(data, output=None, **changes):
    chosen = {
        **CHOICES,
        "adapter": "none",
        "baselines": False,
        "device": "cpu",
        **changes,
    }
    return domainemo.run(data, output=output, **chosen)


def weights(folder):
    """The bytes of every fold's pre-trained weights."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("backbone.safetensors"))
    }
    assert found
    return found


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished pre-training, not to be changed."""
    folder = tmp_path_factory.mktemp("pretraining") / "finished"
    return folder, pretrain(data, folder)


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(finished[0], tmp_path / "copy")


# ------------------------------------------------------------------------------ pairs


def moments(subjects=7, stimuli=5, times=3, sessions=2):
    """A row per sample; subject 1 has no stimulus 0, and only one saw stimulus 99."""
    rows = [
        (subject, stimulus, 4.0 * time)
        for subject in range(subjects)
        for _ in range(sessions)
        for stimulus in range(stimuli)
        for time in range(times)
        if (subject, stimulus) != (1, 0)
    ]
    table = pd.DataFrame(
        [*rows, (0, 99, 0.0)], columns=["subject", "stimulus", "start"]
    )
    return table.sample(frac=1, random_state=0, ignore_index=True)


@pytest.mark.parametrize("members", [1, 2, 3])
def test_a_pair_is_of_different_people_at_one_moment(members):
    table = moments()
    pairing = Synchronous(table, members=members)
    assert pairing.moments == 5 * 3
    met = Counter()
    for seed in range(40):
        seen = Counter()
        for batch in pairing.epoch(4, np.random.default_rng(seed)):
            assert 2 <= len(batch.samples) <= 4
            assert batch.samples.shape[1:] == (2, members)
            assert batch.same is None
            here = set()
            for pair in batch.samples:
                rows = table.iloc[pair.ravel()]
                place = set(zip(rows["stimulus"], rows["start"], strict=True))
                assert len(place) == 1
                assert rows["subject"].nunique() == 2 * members
                assert not place & here, "a moment stands twice in a step"
                here |= place
                (moment,) = place
                seen.update((moment, subject) for subject in rows["subject"])
                for one in pair[0]:
                    for two in pair[1]:
                        met[frozenset(table["subject"].iloc[[one, two]])] += 1
        assert set(seen.values()) == {1}, "someone was drawn twice at a moment"
        # Nobody is left out whom the size of the groups does not leave out.
        counts = Counter(moment for moment, _ in seen)
        for (stimulus, _), count in counts.items():
            there = 7 - (stimulus == 0)
            assert count == there // (2 * members) * 2 * members
        assert len(counts) == 15
    # Any two can meet, and about equally often: no fixed halves.
    assert set(met) == {frozenset(pair) for pair in combinations(range(7), 2)}
    often = [count for pair, count in met.items() if 1 not in pair]
    assert max(often) < 1.8 * min(often)


def test_every_session_of_a_subject_takes_part():
    table = moments()
    pairing, seen = Synchronous(table), set()
    for seed in range(40):
        for batch in pairing.epoch(8, np.random.default_rng(seed)):
            seen |= set(batch.samples.ravel().tolist())
    assert seen == set(np.flatnonzero(table["stimulus"] != 99).tolist())


def test_pairs_of_one_stimulus_can_be_left_out_of_the_opposites():
    table = moments()
    pairing = Synchronous(table, exclude_same_stimulus=True)
    for batch in pairing.epoch(8, np.random.default_rng(0)):
        stimuli = table["stimulus"].to_numpy()[batch.samples[:, 0, 0]]
        assert np.array_equal(batch.same, np.equal.outer(stimuli, stimuli))


@pytest.mark.parametrize("members", [1, 2])
def test_random_pairs_differ_in_nothing_but_who_is_paired(members):
    table = moments()
    steps = [
        kind(table, members=members).epoch(4, np.random.default_rng(3))
        for kind in (Synchronous, Random)
    ]
    ours, theirs = ([batch.samples.shape for batch in epoch] for epoch in steps)
    assert ours == theirs
    drawn = np.concatenate([batch.samples.ravel() for batch in steps[1]])
    assert max(Counter(drawn.tolist()).values()) <= -(-len(drawn) // len(table))
    places = table[["stimulus", "start"]].to_numpy()
    together = [
        (places[pair.ravel()] == places[pair.ravel()[0]]).all()
        for batch in steps[1]
        for pair in batch.samples
    ]
    assert np.mean(together) < 0.3


@pytest.mark.parametrize(
    "table",
    [
        moments(subjects=1),
        moments(stimuli=1, times=1),
        moments().assign(stimulus=np.nan),
        moments().assign(stimulus=lambda table: table["subject"]),
    ],
    ids=["one subject", "one moment", "no stimulus", "a stimulus each"],
)
def test_without_common_moments_there_are_no_pairs(table):
    with pytest.raises(DataError, match=r"at least 2 subjects share"):
        Synchronous(table)


@pytest.mark.parametrize("name", ["everyone", "newcomers", "cross-dataset"])
def test_a_protocol_without_folds_to_start_from_is_refused(data, tmp_path, name):
    told = f"The protocol is '{name}', which tests nobody in these.*'cross-subject'"
    with pytest.raises(ConfigurationError, match=told):
        pretrain(data, tmp_path / "made", protocol=name)
    assert not [*tmp_path.iterdir()]


def test_a_fold_without_pairs_is_named_before_anything_is_trained(data, tmp_path):
    with pytest.raises(DataError, match=r"fold 'subject 1.*moments"):
        pretrain(data, tmp_path / "new", protocol="cross-session")
    with pytest.raises(DataError, match=r"fold 'subject 1'.* 4 subjects share"):
        pretrain(data, tmp_path / "new", options={**TINY, "pairs.members": 2})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": "nearby"}, "pairs is 'nearby'.*'synchronous', 'random'"),
        ({"options": {"pairs.member": 2}}, "Did you mean 'members'"),
        ({"options": {"pairs.members": 0}}, "at least 1 member"),
        ({"options": {"contrast.temperature": 0.0}}, "temperature"),
        ({"options": {"adapter.weight": 1.0}}, "adapter.weight"),
        ({"options": {"training.label_smoothing": 0.2}}, "label_smoothing"),
    ],
)
def test_options_that_do_not_fit(data, tmp_path, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        pretrain(data, tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


# --------------------------------------------------------------------------- firewall


def noise(data, rows):
    """The recordings with other signals at `rows`."""
    generator = np.random.default_rng(0)
    signals = {name: array.copy() for name, array in data.inputs.signals.items()}
    for array in signals.values():
        array[rows] = generator.standard_normal(array[rows].shape) * 7
    return replace(data, inputs=replace(data.inputs, signals=signals))


def test_labels_change_nothing(data, finished, tmp_path):
    labels = np.random.default_rng(0).integers(len(data.classes), size=len(data))
    pretrain(replace(data, labels=labels), tmp_path / "noise")
    pretrain(data.inputs, tmp_path / "none")
    assert weights(tmp_path / "noise") == weights(finished[0])
    assert weights(tmp_path / "none") == weights(finished[0])


@pytest.mark.parametrize("normalisation", ["session", "source"])
def test_the_target_changes_nothing(data, tmp_path, normalisation):
    protocol = FirstFold(CrossSubject())
    (fold,) = protocol.split(data.inputs.windows)
    chosen = {"protocol": protocol, "normalisation": normalisation}
    pretrain(data, tmp_path / "true", **chosen)
    pretrain(noise(data, fold.target), tmp_path / "noise", **chosen)
    assert weights(tmp_path / "true") == weights(tmp_path / "noise")
    pretrain(noise(data, fold.source[:9]), tmp_path / "other", **chosen)
    assert weights(tmp_path / "true") != weights(tmp_path / "other")


def test_a_job_is_handed_neither_labels_nor_the_target(data, tmp_path):
    planned = plan_pretraining(data, pretraining(**CHOICES))
    for job in planned.jobs(tmp_path):
        assert len(job.fold.target) == len(job.fold.test) == 0
        subjects = data.inputs.windows["subject"].to_numpy()[job.fold.source]
        assert f"subject {set(range(1, 5)) - set(subjects)}" == (
            f"subject {{{job.fold.name[-1]}}}"
        )
    sent = pickle.dumps((planned.inputs, planned.chosen, planned.jobs(tmp_path)))
    assert b"EmotionData" not in sent
    for kind in (np.int64, np.int32, np.int8):
        assert data.labels.astype(kind).tobytes() not in sent


# ------------------------------------------------------------------------ determinism


@pytest.mark.parametrize("when", ["between folds", "within a fold"])
def test_killed_and_resumed(data, finished, tmp_path, when):
    torch.rand(7)  # whatever the process did before

    def interrupt(monitor):
        first, second = monitor.jobs[:2]
        if first.finished and second.epoch == (when == "within a fold"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(data, tmp_path / "killed", on_progress=interrupt)
    assert len(weights(tmp_path / "killed")) == 1
    table = pretrain(data, tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(finished[0])
    same = [name for name in table if name != "seconds"]
    pd.testing.assert_frame_equal(table[same], finished[1][same])
    assert not list((tmp_path / "killed").rglob("*.partial"))


def test_the_loop_resumes_from_a_checkpoint_to_the_same_bits(
    data, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def interrupt(monitor):
        if monitor.jobs[0].epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(data, tmp_path / "killed", on_progress=interrupt)
    assert len(list((tmp_path / "killed").rglob("checkpoint.pt"))) == 1
    trained, train_epoch = [], loop.Loop.train_epoch

    def watch(state):
        trained.append(state.epoch)
        return train_epoch(state)

    monkeypatch.setattr(loop.Loop, "train_epoch", watch)
    pretrain(data, tmp_path / "killed")
    # The first epoch of the fold that was cut off is not trained again.
    assert trained[:3] == [1, 0, 1]
    assert weights(tmp_path / "killed") == weights(finished[0])
    assert not list((tmp_path / "killed").rglob("checkpoint*"))


def test_a_finished_pretraining_is_read_not_trained_again(data, folder, monkeypatch):
    monkeypatch.setattr(loop.Loop, "train_epoch", None)
    before = weights(folder)
    pretrain(data, folder)
    assert weights(folder) == before
    with pytest.raises(ConfigurationError, match="pairs: there 'synchronous'"):
        pretrain(data, folder, pairs="random")
    with pytest.raises(DataError, match="changed since this run began: recordings"):
        pretrain(noise(data, np.arange(3)), folder)


def test_folds_and_seeds_have_weights_of_their_own(data, finished, tmp_path):
    assert len(set(weights(finished[0]).values())) == 4
    pretrain(data, tmp_path / "seed", seeds=(1,), protocol=FirstFold(CrossSubject()))
    (other,) = weights(tmp_path / "seed").values()
    assert other not in weights(finished[0]).values()


def test_the_folder_says_how(finished, data):
    folder, table = finished
    text = (folder / "how.txt").read_text()
    for said in ("simulated", "synchronous pairs", "source alone", "without labels"):
        assert said in text
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "pretraining.parquet"), table
    )
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["pairs"] == "synchronous"
    assert config["options"]["contrast.temperature"] == 0.1
    assert config["options"]["pairs.members"] == 1
    assert "training.label_smoothing" not in config["options"]
    assert "adapter" not in config
    # Three subjects, two sessions, three clips; padded trials all start at 0.
    assert (table["moments"] == 3).all() and (table["samples"] == 18).all()


# --------------------------------------------------------------- starting from it


def test_every_fold_starts_from_its_own_weights(data, finished, tmp_path):
    still = Training(epochs=1, batch_size=8, learning_rate=1e-12, weight_decay=0.0)
    chosen = {"training": still}
    run(data, tmp_path / "plain", **chosen)
    run(data, tmp_path / "started", init_from=finished[0], **chosen)
    models = sorted((tmp_path / "started").rglob("model.safetensors"))
    assert len(models) == 4
    for path in models:
        found = load_file(path)
        before = load_file(
            finished[0]
            / path.relative_to(tmp_path / "started").parent.parent
            / "pretrained"
            / "backbone.safetensors"
        )
        plain = load_file(tmp_path / "plain" / path.relative_to(tmp_path / "started"))
        assert {f"backbone.{name}" for name in before} <= set(found)
        for name, value in found.items():
            expected = before.get(name.removeprefix("backbone."))
            # The heads are drawn as they are without pre-training.
            expected = plain[name] if expected is None else expected
            np.testing.assert_allclose(value, expected, atol=1e-9, err_msg=name)


def test_results_say_where_the_networks_started(data, finished, tmp_path):
    words = (
        "initialised from pre-training (synchronous pairs of eeg, eye, 2 epochs) on the"
    )
    results = run(
        data,
        tmp_path / "run",
        init_from=finished[0],
        baselines=True,
        protocol="cross-subject",
    )
    assert words in results.how()
    assert words in (tmp_path / "run" / "how.txt").read_text()
    assert words in (tmp_path / "run" / "config.toml").read_text()
    table = results.table.set_index("method")["initialisation"]
    assert table.loc["source only"].str.startswith(words).all()
    assert (table.drop("source only").fillna("") == "").all()
    plain = run(data, protocol=FirstFold(CrossSubject()))
    assert (plain.table["initialisation"] == "random initialisation").all()
    assert "initialised" not in plain.how()


def test_a_run_does_not_go_on_with_other_weights(data, finished, folder, tmp_path):
    run(data, tmp_path / "run", init_from=folder)
    moved = shutil.move(folder, tmp_path / "moved")
    run(data, tmp_path / "run", init_from=moved)  # a place may change
    with pytest.raises(ConfigurationError, match="initialisation: there"):
        run(data, tmp_path / "run")
    one, two, *_ = sorted(moved.rglob("backbone.safetensors"))
    shutil.copy(one, two)
    with pytest.raises(DataError, match=r"backbone\.safetensors: found another"):
        run(data, tmp_path / "run", init_from=moved)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"protocol": "cross-session"}, "protocol: there 'cross-subject'"),
        ({"options": {**TINY, "protocol.held_out": 0.5}}, "protocol.held_out: there"),
        ({"backbone": "uf-ama", "options": {}}, "backbone: there 'r2gfanet'"),
        ({"options": {"backbone.width": 16, "backbone.heads": 2}}, "width: there 8"),
        ({"normalisation": "subject"}, "normalisation: there 'session'"),
        ({"modalities": "eye,eeg"}, "modalities: there eeg, eye, here eye, eeg"),
        ({"exclude": (4,)}, "exclude: there 'unset'"),
        ({"seeds": (0, 5)}, "nothing was pre-trained for subject 1, seed 5"),
    ],
)
def test_a_pretraining_of_something_else_is_refused(data, finished, changes, named):
    with pytest.raises(ConfigurationError, match=named):
        run(data, init_from=finished[0], **changes)


def test_other_recordings_or_folds_are_refused(data, finished, folder):
    with pytest.raises(ConfigurationError, match="the recordings' signals"):
        run(noise(data, np.arange(3)), init_from=finished[0])
    # Other labels for the same recordings are welcome: none was used.
    labels = (data.labels + 1) % len(data.classes)
    run(replace(data, labels=labels), init_from=finished[0])
    record = next(folder.rglob("record.json"))
    facts = json.loads(record.read_text())
    record.write_text(json.dumps({**facts, "source": "another"}))
    with pytest.raises(DataError, match=r"record\.json: found"):
        run(data, init_from=folder)
    shutil.rmtree(record.parent)
    with pytest.raises(ConfigurationError, match="nothing was pre-trained for subj"):
        run(data, init_from=folder)


PHYSIOSYNC = {
    "backbone": "physiosync",
    "protocol": FirstFold(CrossSubject()),
    "sampling": "windows",
    "training": Training(epochs=1, batch_size=8),
    "options": {
        "backbone.short_width": 8,
        "backbone.long_width": 8,
        "backbone.blocks": 1,
        "backbone.length": 2,
    },
}


@pytest.fixture(scope="module")
def of_both(data, tmp_path_factory):
    """A pre-training on EEG and eye movements, not to be changed."""
    folder = tmp_path_factory.mktemp("pretraining") / "both"
    pretrain(data, folder, **PHYSIOSYNC)
    return folder


def test_fewer_modalities_go_on_from_what_was_learnt_with_more(data, of_both, tmp_path):
    still = Training(epochs=1, batch_size=8, learning_rate=1e-12, weight_decay=0.0)
    chosen = {**PHYSIOSYNC, "modalities": "eeg", "training": still}
    results = run(data, tmp_path / "started", init_from=of_both, **chosen)
    run(data, tmp_path / "plain", **chosen)
    assert "pairs of eeg, eye, 1 epoch) on" in results.how()
    (before,) = of_both.rglob("backbone.safetensors")
    before = load_file(before)
    found, plain = (
        load_file(next((tmp_path / name).rglob("model.safetensors")))
        for name in ("started", "plain")
    )
    assert found.keys() == plain.keys()
    taken = {n for n in found if not n.startswith(("heads.", "backbone.fusion.0.wei"))}
    assert any("encoders.eeg" in name for name in taken)
    assert not any("eye" in name for name in taken)
    for name, value in found.items():
        # The layer that joins modalities has another shape, and is drawn anew.
        start = before[name.removeprefix("backbone.")] if name in taken else plain[name]
        np.testing.assert_allclose(value, start, atol=1e-9, err_msg=name)


def test_fewer_modalities_of_other_recordings_are_refused(data, of_both):
    chosen = {**PHYSIOSYNC, "modalities": "eeg", "init_from": of_both}
    with pytest.raises(ConfigurationError, match="different: the recordings' signals"):
        run(noise(data, np.arange(3)), **chosen)


def test_more_modalities_than_were_seen_are_refused(data, tmp_path):
    pretrain(data, tmp_path / "eeg", **PHYSIOSYNC, modalities="eeg")
    with pytest.raises(ConfigurationError, match="modalities: there eeg, here eeg, e"):
        run(data, **PHYSIOSYNC, init_from=tmp_path / "eeg")


def test_a_network_that_is_built_otherwise_of_fewer_modalities_is_refused(
    data, of_both
):
    chosen = experiment(**PHYSIOSYNC, modalities="eeg", adapter="none")
    planned = plan(data, chosen)
    built = chosen.build_backbone(planned.inputs.modalities).state_dict()
    known = read_initialisation(of_both), chosen.describe()
    folds = planned.inputs, planned.folds
    check_initialisation(*known, *folds, built)
    with pytest.raises(ConfigurationError, match=r"eeg alone has other.*as lone\.bias"):
        check_initialisation(*known, *folds, {**built, "lone.bias": torch.zeros(2)})


def test_a_folder_that_is_no_pretraining_is_refused(data, tmp_path):
    run(data, tmp_path / "run", protocol=FirstFold(CrossSubject()))
    for place in ("run", "nowhere"):
        with pytest.raises(ConfigurationError, match="folder of a finished"):
            run(data, init_from=tmp_path / place)


# ------------------------------------------------------------------------- few labels


def test_few_labels_are_whole_trials_of_every_class_of_the_source(data):
    (fold,) = FirstFold(CrossSubject()).split(data.inputs.windows)
    place = ["subject", "session", "trial"]
    windows = data.inputs.windows.assign(label=data.labels)
    before = set()
    for share in (0.01, 0.2, 0.5, 0.9, 1):
        rows = labelled_rows(data.inputs.windows, data.labels, fold, share, seed=3)
        assert set(rows) <= set(fold.source)
        assert before <= set(rows)
        before = set(rows)
        chosen = windows.iloc[rows].groupby(place)
        whole = windows.groupby(place).size()
        assert (chosen.size() == whole.loc[chosen.size().index]).all()
        counts = chosen["label"].first().value_counts()
        # Three subjects, two sessions, one trial of each class.
        assert dict(counts) == dict.fromkeys(range(3), max(round(6 * share), 1))
    assert set(rows) == set(fold.source)
    few = [
        set(labelled_rows(data.inputs.windows, data.labels, fold, 0.2, seed))
        for seed in range(8)
    ]
    assert any(other != few[0] for other in few)
    # A run draws them with each of its seeds.
    training = Training(label_share=0.2)
    planned = plan(data, experiment(training=training, seeds=(0, 3), options=TINY))
    (own,) = [each for each in planned.folds if each.name == fold.name]
    drawn = [planned.labelled(own, seed) for seed in (0, 3)]
    for seed, rows in zip((0, 3), drawn, strict=True):
        wanted = labelled_rows(planned.windows, planned.labels, own, 0.2, seed)
        np.testing.assert_array_equal(rows, wanted)
    assert not np.array_equal(*drawn)


def test_labels_that_are_left_out_reach_no_job(data, tmp_path):
    protocol, few = FirstFold(CrossSubject()), Training(epochs=1, label_share=0.34)
    (fold,) = protocol.split(data.inputs.windows)
    known = labelled_rows(data.inputs.windows, data.labels, fold, 0.34, 0)
    assert len(known) < len(fold.source) / 2
    chosen = experiment(protocol=protocol, training=few, adapter="none", options=TINY)
    jobs = plan(data, chosen).jobs(tmp_path)
    assert len(jobs) == 2  # source only and the linear model
    for job in jobs:
        assert np.array_equal(job.labelled, known)
        assert np.array_equal(job.source_labels, data.labels[known])
        assert data.labels[fold.source].tobytes() not in pickle.dumps(job)


def test_a_run_with_few_labels_says_so(data, tmp_path):
    protocol = FirstFold(CrossSubject())
    training = Training(epochs=2, batch_size=4)
    few = run(
        data,
        tmp_path / "few",
        protocol=protocol,
        baselines=True,
        training=replace(training, label_share=0.34),
    )
    assert "labels of 0.34 of the source's trials" in few.how()
    assert (few.table["label_share"] == 0.34).all()
    full = run(data, tmp_path / "full", protocol=protocol, training=training)
    assert "labels of" not in full.how()
    one, two = (
        next((tmp_path / name).rglob("none/model.safetensors")).read_bytes()
        for name in ("few", "full")
    )
    assert one != two


# ------------------------------------------------------------------- what it learns


def test_the_default_views_are_the_modalities_before_fusion(data):
    backbone = R2GFANet(data.inputs.modalities, width=8, heads=2).eval()
    signals = {
        name: torch.randn(3, 4, len(m.channels), len(m.features))
        for name, m in data.inputs.modalities.items()
    }
    masks = {name: torch.ones(3, 4, dtype=torch.bool) for name in signals}
    views, embeddings = backbone.views(signals, masks), backbone(signals, masks)
    assert list(views) == ["eeg", "eye"]
    for name, value in views.items():
        assert torch.equal(value, embeddings[name])


def test_synchronous_pairs_can_be_told_apart_and_random_ones_cannot(tmp_path):
    clear = {"noise": 0.3, "poor": 0.0, "missing": 0.0, "subject_shift": 0.3}
    data = Simulated(
        subjects=4, sessions=1, trials=12, windows=(6, 6), synchrony=2.0, **clear
    ).load()
    ends = {
        pairs: pretrain(
            data,
            tmp_path / pairs,
            pairs=pairs,
            protocol=FirstFold(CrossSubject()),
            sampling="windows",
            training=Training(epochs=10, batch_size=24, learning_rate=3e-3),
            options={**TINY, "backbone.dropout": 0.0},
        )["last_loss"].iloc[0]
        for pairs in ("synchronous", "random")
    }
    assert ends["synchronous"] < 0.9 * ends["random"]


class Misnamed(R2GFANet):
    """A network whose view is of no modality."""

    def views(self, signals, masks):
        """Return the fusion."""
        return {"fusion": self(signals, masks)["fusion"]}


def test_the_shipped_checks_look_at_views():
    for part, passes in ((R2GFANet, True), (Misnamed, False)):
        (views,) = [each for each in checks(part) if each.name == "views"]
        if passes:
            views()
        else:
            with pytest.raises(AssertionError, match="a view 'fusion'"):
                views()


# ----------------------------------------------------------------------- command line


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_pretrain_then_adapt(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    small = [
        "--set=data.subjects=3",
        "--set=data.sessions=1",
        "--set=data.trials=3",
        "--set=data.windows=[3, 4]",
        "--set=backbone.width=8",
        "--set=backbone.heads=2",
        "--epochs=1",
        "--batch-size=2",
        "--jobs=1",
    ]
    random = ["--pairs=random", "--set=temperature=0.2"]
    assert command(monkeypatch, "pretrain", *small, *random, "--dry-run") == 0
    assert "moments" in capsys.readouterr().out
    assert command(monkeypatch, "pretrain", *small, *random, "--output", "first") == 0
    assert "random pairs" in " ".join(capsys.readouterr().out.split())
    # It can be repeated from its own folder.
    again = ("pretrain", "--config", "first", "--jobs=1", "--output", "again")
    assert command(monkeypatch, *again) == 0
    assert weights(tmp_path / "first") == weights(tmp_path / "again")
    config = tomllib.loads((tmp_path / "first" / "config.toml").read_text())
    assert config["options"]["contrast.temperature"] == 0.2

    adapt = ("adapt", *small, "--adapter=none", "--no-baselines")
    assert command(monkeypatch, *adapt, "--init-from=first", "--output=run") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "initialised from pre-training (random pairs of eeg, eye, 1 epoch)" in shown
    assert (
        command(monkeypatch, "adapt", "--config=run", "--jobs=1", "--output=rerun") == 0
    )
    one, two = (
        {p.relative_to(place): p.read_bytes() for p in place.rglob("model.safetens*")}
        for place in (tmp_path / "run", tmp_path / "rerun")
    )
    assert one == two
    for wrong in (
        (*adapt, "--init-from=run"),
        (*adapt, "--init-from=first", "--normalisation=source"),
        ("adapt", "--config=first"),
        ("pretrain", "--config=run"),
        ("pretrain", *small, "--set=label_share=0.5"),
    ):
        assert command(monkeypatch, *wrong) == 2, wrong
