"""A run's folder: what stands in it, how it resumes, and what it refuses."""

import json
import shutil
import tomllib
from collections import defaultdict
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_metrics import slow_areas, slow_selective

import domainemo
from domainemo import (
    ConfigurationError,
    DataError,
    Simulated,
    Training,
    files,
)
from domainemo.errors import DomainemoWarning, RunError
from domainemo.review.reading import networks
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.folder import (
    _jobs,
    fingerprint,
    identity,
    open_folder,
    origin,
    read_config,
    read_stored_config,
    read_table,
    write_table,
)
from domainemo.runs.job import folder_name
from domainemo.runs.metrics import METRICS
from domainemo.runs.model import find_all_trained
from domainemo.runs.plan import plan
from domainemo.runs.record import Record, load_record
from domainemo.runs.results import Results
from domainemo.runs.scorer import oracle_epoch

KEYS = ["method", "fold", "seed"]
TRIAL = ["subject", "session", "trial"]
CHOICES = {
    "protocol": "cross-subject",
    "backbone": "r2gfanet",
    "adapter": "marginal",
    "sampling": "sequences",
    "seeds": (0, 7),
    "device": "cpu",
    "training": Training(epochs=1, batch_size=4),
    "options": {
        "backbone.width": 8,
        "backbone.heads": 2,
        "backbone.feedforward": 8,
        "backbone.fusion_width": 8,
        "sampling.length": 2,
        "adapter.weight": 0.5,
    },
}


def run(data, output=None, **changes):
    return domainemo.run(data, output=output, **{**CHOICES, **changes})


def absent(column):
    """A CSV file cannot tell an empty text from none."""
    return column.isna() | (column.astype(str) == "")


def hashes(folder):
    """Return the content of every file, and when it was written."""
    return {
        str(path.relative_to(folder)): (
            sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def data():
    return Simulated(subjects=3, sessions=2, trials=3, windows=(4, 6)).load()


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished run: the folder, not to be changed, and its results."""
    folder = tmp_path_factory.mktemp("run") / "finished"
    return folder, run(data, folder)


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


# --------------------------------------------------------------------------- tables


@pytest.mark.parametrize("name", ["results", "predictions"])
def test_csv_parquet_and_memory_agree(finished, name):
    folder, results = finished
    csv = pd.read_csv(folder / f"{name}.csv")
    parquet = pd.read_parquet(folder / f"{name}.parquet")
    memory = results.table if name == "results" else results.predictions
    assert list(csv) == list(parquet) == list(memory)
    assert len(csv) == len(parquet) == len(memory) > 0
    for column in csv:
        for other in (parquet[column], memory[column]):
            np.testing.assert_array_equal(absent(csv[column]), absent(other))
            there = ~absent(csv[column])
            left, right = csv[column][there].to_numpy(), other[there].to_numpy()
            if right.dtype.kind == "f":
                np.testing.assert_allclose(left, right, rtol=1e-7)
            else:
                assert left.tolist() == right.tolist()


def slow_metrics(labels, probabilities):
    """Every metric, from counts kept one sample at a time."""
    true, said, right = defaultdict(int), defaultdict(int), defaultdict(int)
    bins = defaultdict(list)
    for label, row in zip(labels, probabilities, strict=True):
        best = int(np.argmax(row))
        true[label] += 1
        said[best] += 1
        right[label] += best == label
        number = min(k for k in range(1, 11) if row[best] <= k / 10 + 1e-7)
        bins[number].append((row[best], best == label))
    total = len(labels)
    agreed = sum(right.values()) / total
    chance = sum(true[c] * said[c] for c in true) / total**2
    return {
        "accuracy": agreed,
        "balanced_accuracy": np.mean([right[c] / true[c] for c in true]),
        "macro_f1": np.mean([2 * right[c] / (true[c] + said[c]) for c in true]),
        "kappa": (agreed - chance) / (1 - chance) if chance < 1 else 0.0,
        "calibration_error": sum(
            abs(sum(sure - ok for sure, ok in inside)) for inside in bins.values()
        )
        / total,
        "auroc": slow_areas(labels, probabilities),
        "log_loss": -np.mean(
            [
                np.log(max(row[c], 1e-7))
                for c, row in zip(labels, probabilities, strict=True)
            ]
        ),
        "selective_accuracy": slow_selective(labels, probabilities),
    }


def test_every_number_can_be_computed_from_the_predictions(finished):
    folder, results = finished
    table = pd.read_csv(folder / "results.csv")
    predictions = pd.read_csv(folder / "predictions.csv")
    columns = [name for name in predictions if name.startswith("p_")]
    assert set(METRICS) <= set(table)
    recomputed = 0
    for keys, part in predictions.groupby(KEYS):
        one_hot = np.eye(len(columns))[part["predicted"]]
        one_hot += 1e-6 * part[columns].to_numpy(np.float32)  # decides a tie
        one_hot /= one_hot.sum(1, keepdims=True)
        votes = part.assign(**dict(zip(columns, one_hot.T, strict=True)))
        levels = {results.level: (part["label"], part[columns])}
        for level, rows in (("trial", part), ("trial, majority", votes)):
            trials = rows.groupby(TRIAL)
            levels[level] = (trials["label"].first(), trials[columns].mean())
        rows = table[(table[KEYS] == list(keys)).all(axis=1)].set_index("level")
        assert set(rows.index) == set(levels)
        for level, (labels, probabilities) in levels.items():
            expected = slow_metrics(labels.to_numpy(), probabilities.to_numpy())
            assert rows.loc[level, "samples"] == len(labels)
            for metric in METRICS:
                found = rows.loc[level, metric]
                assert found == pytest.approx(expected[metric], abs=1e-6), (keys, level)
                recomputed += 1
    assert recomputed == len(table) * len(METRICS)


def test_predictions_are_probabilities_of_the_true_windows(finished, data):
    folder, _ = finished
    predictions = pd.read_csv(folder / "predictions.csv")
    columns = [f"p_{name}" for name in data.classes]
    np.testing.assert_allclose(predictions[columns].sum(axis=1), 1, atol=1e-5)
    assert (predictions["predicted"] == predictions[columns].to_numpy().argmax(1)).all()
    truth = data.inputs.windows.assign(truth=data.labels)
    joined = predictions.merge(truth, on=[*TRIAL, "stimulus", "start"], how="left")
    assert (joined["label"] == joined["truth"]).all()
    assert (joined["fold"] == "subject " + joined["subject"].astype(str)).all()


def test_every_method_is_tested_on_the_same_samples(finished):
    predictions = finished[1].predictions
    seed = CHOICES["seeds"][0]
    chosen = predictions[predictions["seed"] == seed]
    samples = {
        method: set(part[[*TRIAL, "start"]].itertuples(index=False, name=None))
        for method, part in chosen.groupby("method")
    }
    controls = {"logistic regression", "majority class", "clip duration only"}
    assert {"marginal", "source only", *controls} == set(samples)
    assert len({frozenset(keys) for keys in samples.values()}) == 1
    assert finished[1].methods[0] == "marginal"


def test_summary_and_comparison_are_over_subjects(finished):
    folder, results = finished
    table = pd.read_csv(folder / "results.csv")
    for method, row in results.summary().iterrows():
        rows = table[(table["method"] == method) & (table["level"] == "sequence")]
        subjects = [r["balanced_accuracy"].mean() for _, r in rows.groupby("subject")]
        assert row["subjects"] == 3
        assert row["mean"] == pytest.approx(np.mean(subjects))
        assert row["deviation"] == pytest.approx(np.std(subjects, ddof=1))
        whole = table[(table["method"] == method) & (table["level"] == "trial")]
        trials = [r["balanced_accuracy"].mean() for _, r in whole.groupby("subject")]
        assert row["trial"] == pytest.approx(np.mean(trials))
    summary = results.summary()["mean"]
    gap = summary["marginal"] - summary["source only"]
    assert results.comparison().difference == pytest.approx(gap)


def test_every_row_says_how_it_was_obtained(finished):
    folder, results = finished
    table = pd.read_csv(folder / "results.csv")
    trained = table[table["method"].isin(["marginal", "source only"])]
    for column in ("dataset", "protocol", "access", "target_seen", "sampling"):
        assert table[column].notna().all()
    for column in ("normalisation", "selection", "backbone", "epoch"):
        assert trained[column].notna().all()
    assert set(trained["access"]) == {"transductive"}
    assert set(trained["selection"]) == {"last"}
    text = (folder / "how.txt").read_text()
    assert text.strip() == results.how()
    for said in ("cross-subject", "transductive", "seed 0, 7", "sequence", "simulated"):
        assert said in text
    assert "oracle" not in (text + table.to_csv()).lower()
    assert "cuda" not in text
    on_gpu = {**results.description, "device": "cuda:1"}
    assert "seed 0, 7; on cuda:1; " in replace(results, description=on_gpu).how()


# -------------------------------------------------------------------- configuration


def test_config_holds_every_choice_defaults_included(finished, data):
    config = tomllib.loads((finished[0] / "config.toml").read_text())
    assert config["recordings"] == data.inputs.name
    assert config["domainemo"] == domainemo.__version__
    assert config["seeds"] == [0, 7]
    for setting in fields(Training):
        expected = getattr(CHOICES["training"], setting.name)
        assert config["options"][f"training.{setting.name}"] == expected
    assert config["options"]["backbone.width"] == 8
    assert config["options"]["adapter.weight"] == 0.5
    assert config["options"]["adapter.distance"] == "mmd"  # a default
    assert config["options"]["protocol.held_out"] == 0.0  # another


def test_config_makes_the_same_experiment_again(finished):
    config = tomllib.loads((finished[0] / "config.toml").read_text())
    described = dict(config)
    for name in ("recordings", "domainemo"):
        del config[name]
    config["seeds"] = tuple(config["seeds"])
    again = experiment(**config).describe()
    assert {**again, "recordings": described["recordings"]} == described


def marked(data):
    return fingerprint(data.inputs, data.labels, data.classes)


def test_environment_names_versions_and_recordings(finished, data):
    environment = json.loads((finished[0] / "environment.json").read_text())
    order = canonical(data.inputs)
    assert environment["recordings"] == marked(data.take(order))
    assert environment["packages"]["torch"].startswith("2.")


def test_nothing_unfinished_is_left_behind(finished):
    left = [p.name for p in finished[0].rglob("*") if "partial" in p.name]
    assert not left
    assert not list(finished[0].glob(".work*"))
    assert not list(finished[0].rglob("checkpoint*"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seeds": (0,)}, "seeds"),
        ({"adapter": "none", "options": {"backbone.width": 8}}, "adapter"),
        ({"normalisation": "source"}, "normalisation"),
        ({"baselines": False}, "baselines"),
        ({"training": Training(epochs=2, batch_size=4)}, "training.epochs"),
        ({"options": {**CHOICES["options"], "adapter.weight": 0.6}}, "adapter.weight"),
        ({"validator": "oracle"}, "validator"),
    ],
)
def test_another_configuration_is_refused_and_changes_nothing(
    data, folder, changes, named
):
    before = hashes(folder)
    with pytest.raises(ConfigurationError, match="Nothing was overwritten") as raised:
        run(data, folder, **changes)
    assert f"{named}: there" in str(raised.value)
    # Nor what the options of another adapter would be.
    assert named != "adapter" or "adapter." not in str(raised.value)
    assert hashes(folder) == before


def relabelled(data):
    return replace(data, labels=(data.labels + 1) % len(data.classes))


def one_value_more(data):
    eye = data.inputs.signals["eye"].copy()
    eye[np.flatnonzero(np.isfinite(eye).all(axis=(1, 2)))[-1], 0, 0] += 0.01
    return replace(
        data, inputs=replace(data.inputs, signals={**data.inputs.signals, "eye": eye})
    )


def two_electrodes_swapped(data):
    eeg = data.inputs.modalities["eeg"]
    first, second, *others = eeg.channels
    swapped = replace(eeg, channels=(second, first, *others))
    modalities = {**data.inputs.modalities, "eeg": swapped}
    return replace(data, inputs=replace(data.inputs, modalities=modalities))


def later(data):
    windows = data.inputs.windows.assign(start=data.inputs.windows["start"] + 1)
    return replace(data, inputs=replace(data.inputs, windows=windows))


@pytest.mark.parametrize(
    "change", [relabelled, one_value_more, two_electrodes_swapped, later]
)
def test_changed_recordings_are_refused_and_change_nothing(data, folder, change):
    before = hashes(folder)
    with pytest.raises(DataError, match="changed since this run began: recordings"):
        run(change(data), folder)
    assert hashes(folder) == before


def test_a_folder_of_something_else_is_refused(data, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    before = hashes(tmp_path)
    with pytest.raises(ConfigurationError, match="no run's folder"):
        run(data, tmp_path)
    assert hashes(tmp_path) == before


def test_a_bad_configuration_writes_nothing(data, tmp_path):
    for changes in ({"adapter": "nothing"}, {"options": {"backbone.widht": 8}}):
        with pytest.raises(ConfigurationError):
            run(data, tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_config_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="no such configuration file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigurationError, match="expected TOML"):
        read_config(tmp_path / "bad.toml")


def test_a_stored_configuration_is_checked_once(folder, monkeypatch):
    checked, check = [], files.check
    monkeypatch.setattr(files, "check", lambda *a: checked.append(a[0]) or check(*a))
    assert read_stored_config(folder)["backbone"] == "r2gfanet"
    assert checked == [folder / "config.toml"]


# ----------------------------------------------------------------------- resumption


def test_a_run_s_own_configuration_is_read_as_it_was_written(folder, tmp_path):
    config = folder / "config.toml"
    edited = config.read_text().replace("adapter.weight = 0.5", "adapter.weight = 0.7")
    config.write_text(edited + "\n")
    with pytest.raises(DataError, match=r"config\.toml: found .*edit a copy of it"):
        read_config(config)
    copy = tmp_path / "config.toml"
    copy.write_text(edited)
    assert read_config(copy)["backbone"] == "r2gfanet"


def without_seconds(table):
    return table.drop(columns="seconds")


def test_a_finished_run_trains_nothing_again(data, folder, finished):
    before = hashes(folder / "folds")
    results = run(data, folder)
    assert hashes(folder / "folds") == before
    pd.testing.assert_frame_equal(results.table, finished[1].table)
    pd.testing.assert_frame_equal(results.predictions, finished[1].predictions)


def test_only_what_is_missing_is_trained_and_ends_the_same(data, folder, finished):
    shutil.rmtree(folder / "folds" / "subject_2")
    for name in ("results.csv", "results.parquet", "predictions.csv", "how.txt"):
        (folder / name).unlink()
    kept = hashes(folder / "folds")
    states = {}

    def watch(monitor):
        states.update({job.name: job.resumed for job in monitor.jobs})

    results = run(data, folder, on_progress=watch)
    again = {name for name, resumed in states.items() if not resumed}
    assert again == {name for name in states if name.startswith("subject 2,")}
    after = hashes(folder / "folds")
    assert {name: after[name] for name in kept} == kept
    assert set(after) == set(hashes(finished[0] / "folds"))
    pd.testing.assert_frame_equal(results.predictions, finished[1].predictions)
    pd.testing.assert_frame_equal(
        without_seconds(results.table), without_seconds(finished[1].table)
    )
    for file in ("predictions.csv", "config.toml", "how.txt"):
        assert (folder / file).read_bytes() == (finished[0] / file).read_bytes()
    for path in (finished[0] / "folds" / "subject_2").rglob("model.safetensors"):
        twin = folder / path.relative_to(finished[0])
        assert twin.read_bytes() == path.read_bytes()


def swap(one, other):
    """Exchange two folders."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


JOB = "folds/subject_1/seed-0/marginal"


@pytest.mark.parametrize(
    "other",
    [JOB.replace("_1", "_2"), JOB.replace("-0", "-7"), JOB.replace("marginal", "none")],
    ids=["fold", "seed", "method"],
)
def test_finished_trainings_that_changed_places_are_told(data, folder, finished, other):
    """Each is as its own record says, and yet not what belongs there."""
    swap(folder / JOB, folder / other)
    with pytest.raises(DataError, match=r"record\.json.*what belongs into"):
        find_all_trained(folder, fold="subject 1", seed=0)
    with pytest.raises(DataError, match=r"record\.json.*what belongs into"):
        networks(folder, Results.load(folder))
    with pytest.warns(DomainemoWarning, match=r"set aside as .*\.damaged"):
        again = run(data, folder)
    pd.testing.assert_frame_equal(again.predictions, finished[1].predictions)


def test_what_was_set_aside_twice_is_no_finished_training(data, folder, finished):
    for name in (".damaged", ".damaged-1"):
        shutil.copytree(folder / JOB, (folder / JOB).with_name(f"none{name}"))
    assert {path.name for path in _jobs(folder)} == {
        path.name for path in folder.glob("folds/*/*/*") if "damaged" not in path.name
    }
    again = run(data, folder)
    pd.testing.assert_frame_equal(again.predictions, finished[1].predictions)


def test_what_recordings_are_called_by_is_the_same_on_every_system(data, monkeypatch):
    known = fingerprint(data.inputs, data.labels, data.classes)
    monkeypatch.setattr("os.linesep", "\r\n")
    assert fingerprint(data.inputs, data.labels, data.classes) == known


def test_what_is_missing_stays_so_in_a_table(tmp_path):
    """A control has no network: its name there is none, and not the text of one."""
    column = np.array(["r2gfanet", None, np.nan, 3], dtype=object)
    written = pd.DataFrame({"backbone": pd.Series(column, dtype=object)})
    write_table(tmp_path, "table", written)
    found = read_table(tmp_path / "table.parquet")["backbone"]
    assert found.isna().tolist() == [False, True, True, False]
    assert found[~found.isna()].tolist() == ["r2gfanet", "3"]


@pytest.mark.parametrize("change", ["recordings", "choices"])
def test_a_training_of_another_run_is_not_taken(
    data, folder, finished, change, tmp_path
):
    """It has the right name, and a record of its own that is right."""
    kept = {"folds": ["subject 1"], "seeds": (0,), "baselines": False}
    if change == "recordings":
        other = Simulated(subjects=3, sessions=2, trials=3, windows=(4, 6), seed=1)
        run(other.load(), tmp_path / "other", **kept)
    else:
        training = Training(epochs=1, batch_size=5)
        run(data, tmp_path / "other", training=training, **kept)
    shutil.rmtree(folder / JOB)
    (tmp_path / "other" / JOB).rename(folder / JOB)
    with pytest.raises(DataError, match=r"record\.json: found the record of another"):
        find_all_trained(folder, fold="subject 1", adapter="marginal", seed=0)
    with pytest.warns(DomainemoWarning, match="the record of another run"):
        again = run(data, folder)
    pd.testing.assert_frame_equal(again.predictions, finished[1].predictions)


def test_records_of_earlier_versions_count(data, folder):
    """They name the fold, and not yet the run."""
    before = {path: path.read_bytes() for path in folder.rglob("record.json")}
    for path, content in before.items():
        facts = json.loads(content)
        del facts["origin"]
        path.write_text(json.dumps(facts))
        (path.parent / "files.json").unlink()
        files.record(path.parent)
    run(data, folder)
    assert not list(folder.rglob("*.damaged"))
    assert all("origin" not in path.read_text() for path in before)


def test_what_the_run_is_called_by_holds_no_label(data, finished, tmp_path):
    """Other labels of the target are other recordings, and the same trainings."""
    turned = replace(data, labels=data.labels[::-1].copy())
    chosen = experiment(**CHOICES)
    for name, each in (("one", data), ("other", turned)):
        facts = {"signals": fingerprint(each.inputs)}
        open_folder(
            tmp_path / name, chosen.describe(), identity(marked(each), ()), facts
        )
    assert origin(tmp_path / "one") == origin(tmp_path / "other")


@pytest.mark.parametrize("leads", ["nowhere", "job.partial", "elsewhere"])
def test_links_in_the_place_of_a_training_are_not_followed(
    data, folder, leads, tmp_path
):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(folder / JOB)
    if leads == "nowhere":
        (folder / JOB).symlink_to(tmp_path / "nothing")
        with pytest.warns(DomainemoWarning, match=r"marginal is set aside"):
            run(data, folder)
        assert (folder / JOB / "record.json").is_file()
    else:
        place = folder / f"{JOB}.partial"
        place.symlink_to(outside if leads == "elsewhere" else place)
        with pytest.raises(RunError, match="found a link to"):
            run(data, folder)
    assert not list(outside.iterdir()) and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("record.json", "{}", "no 'fold'"),
        ("record.json", '{"fold": [1]}', "'fold' that is list"),
        ("record.json", '{"fold": "a", "adapter": "b"}', "no 'seed'"),
    ],
)
def test_records_hold_what_is_read_from_them(folder, name, content, found):
    """Nobody recorded this one."""
    (folder / JOB / "files.json").unlink()
    (folder / JOB / name).write_text(content)
    with (
        pytest.warns(DomainemoWarning, match="cannot be checked"),
        pytest.raises(DataError, match=rf"record\.json: found {found}"),
    ):
        find_all_trained(folder)


@pytest.mark.parametrize("name", ["results", "predictions"])
def test_tables_hold_what_is_read_from_them(folder, name):
    path = folder / f"{name}.parquet"
    table = pd.read_parquet(path)
    (folder / "files.json").unlink()
    for changed, found in (
        (table.drop(columns="fold"), "fold"),
        (table[:0], "no rows"),
    ):
        changed.to_parquet(path)
        with (
            pytest.warns(DomainemoWarning, match="cannot be checked"),
            pytest.raises(DataError, match=rf"{name}\.parquet: found .*{found}"),
        ):
            Results.load(folder)


@pytest.mark.parametrize(
    ("name", "shape"), [("members", (3,)), ("members", (1, 1)), ("trace", (2,))]
)
def test_arrays_of_a_training_fit_together(folder, name, shape):
    path = folder / JOB / "predictions.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, name: np.zeros(shape, arrays[name].dtype)})
    (folder / JOB / "files.json").unlink()
    with (
        pytest.warns(DomainemoWarning, match="cannot be checked"),
        pytest.raises(DataError, match=r"predictions\.npz: found members of shape"),
    ):
        load_record(folder / JOB)


def test_worker_processes_give_the_same_bits(data, tmp_path, finished, two_processes):
    results = run(data, tmp_path / "pool", executor=two_processes)
    pd.testing.assert_frame_equal(results.predictions, finished[1].predictions)
    assert not (tmp_path / "pool" / ".work").exists()
    models = sorted(finished[0].rglob("model.safetensors"))
    assert len(models) == 3 * 2 * 2  # folds, seeds, adapters
    for path in models:
        twin = tmp_path / "pool" / path.relative_to(finished[0])
        assert twin.read_bytes() == path.read_bytes()


def test_neither_the_order_of_the_windows_nor_the_folder_matters(data, finished):
    order = np.random.default_rng(0).permutation(len(data))
    results = run(data.take(order))
    pd.testing.assert_frame_equal(results.predictions, finished[1].predictions)


def test_a_session_held_out_whole_is_refused_before_training(data):
    """Session 2 has a single trial: held out, nothing is left to scale it by."""
    windows = data.inputs.windows
    single = data.take(
        np.flatnonzero((windows["session"] == 1) | (windows["trial"] == 1))
    )
    refused = 0
    for seed in range(12):  # in a quarter of the draws that trial is held out
        chosen = experiment(
            **{k: v for k, v in CHOICES.items() if k != "options"},
            options={"protocol.held_out": 0.25, "protocol.seed": seed},
        )
        try:
            plan(single, chosen)
        except DataError as error:
            refused += "normalisation per subject and session" in str(error)
    assert 0 < refused < 12


@pytest.mark.parametrize("offset", [0, 100])
def test_canonical_order_is_by_position_not_by_index(data, offset):
    backwards = np.arange(len(data))[::-1]
    inputs = data.inputs.take(backwards)
    inputs = replace(inputs, windows=inputs.windows.set_index(backwards + offset))
    sorted_again = inputs.take(canonical(inputs))
    pd.testing.assert_frame_equal(sorted_again.windows, data.inputs.windows)


# --------------------------------------------------------------------------- oracle


def test_an_oracle_says_so_wherever_its_numbers_stand(data, tmp_path):
    training = Training(epochs=2, batch_size=4, learning_rate=0.02)
    results = run(
        data, tmp_path / "run", validator="oracle", training=training, seeds=(0,)
    )
    assert "ORACLE" in results.method
    assert "ORACLE" in results.how()
    assert "ORACLE" in (tmp_path / "run" / "how.txt").read_text()
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())[
        "validator"
    ] == ("oracle")
    for table in (results.table, results.predictions):
        methods = set(table["method"])
        assert {"marginal [ORACLE]", "source only [ORACLE]"} <= methods
        assert not {"marginal", "source only"} & methods
    trained = results.table[results.table["method"].str.contains("ORACLE")]
    assert trained["selection"].str.startswith("oracle").all()
    assert trained["target_seen"].str.contains("ORACLE").all()


def test_an_oracle_keeps_the_epoch_that_the_labels_like_best(data, tmp_path):
    training = Training(epochs=3, batch_size=4, learning_rate=0.02)
    results = run(
        data,
        tmp_path / "run",
        validator="oracle",
        training=training,
        seeds=(0,),
        baselines=False,
    )
    chosen = results.table[results.table["level"] == results.level]
    for fold, rows in results.predictions.groupby("fold"):
        folder = tmp_path / "run" / "folds" / folder_name(fold) / "seed-0" / "marginal"
        trace = np.load(folder / "predictions.npz")["trace"]
        assert len(trace) == 3
        labels = rows["label"].to_numpy()
        scores = [slow_metrics(labels, epoch)["balanced_accuracy"] for epoch in trace]
        row = chosen[chosen["fold"] == fold].iloc[0]
        assert row["balanced_accuracy"] == pytest.approx(max(scores))
        assert scores[int(row["epoch"]) - 1] == pytest.approx(max(scores))


def test_of_a_single_class_an_oracle_keeps_the_most_accurate_epoch():
    """Of which there is no balanced accuracy."""
    trace = np.array([[[0.6, 0.4], [0.2, 0.8]], [[0.1, 0.9], [0.2, 0.8]]])
    members = np.array([[0], [1]])
    record = Record(members, trace[0], trace, {})
    planned = SimpleNamespace(labels=np.array([1, 1]))
    assert oracle_epoch(planned, record) == 2


# ---------------------------------------------------------------------- folder names


@pytest.mark.parametrize(
    ("text", "expected"), [("subject 1", "subject_1"), ("uf-ama", "uf-ama")]
)
def test_plain_names_make_plain_folders(text, expected):
    assert folder_name(text) == expected


@settings(max_examples=50, deadline=None, database=None)
@given(st.text(min_size=1, max_size=30))
def test_folder_names_are_safe(text):
    assert set(folder_name(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(
    ("one", "other"),
    [("subject a-1", "subject a 1"), ("subject 1", "subject  1"), ("a,b", "a b")],
)
def test_distinct_names_make_distinct_folders(one, other):
    assert folder_name(one) != folder_name(other)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ('protocol = "everyone"\n', "`domainemo train`, which tested nobody"),
        ('pairs = "synchronous"\n', "a pre-training, which predicts nothing"),
        ("[study]\n", "a study, whose final runs"),
    ],
)
def test_a_folder_that_is_no_run_is_called_what_it_is(tmp_path, told, what):
    """And not a run that goes on by itself."""
    (tmp_path / "config.toml").write_text(told)
    with pytest.raises(ConfigurationError, match=f"found the folder of .*{what}"):
        Results.load(tmp_path)


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"run: this is a file; .*--output"):
        open_folder(tmp_path / "run", {}, {})
    assert (tmp_path / "run").read_text() == "mine"
