"""The online protocol: what comes next is predicted by what came before it."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import undrawn
from test_calibration import left

import domainemo as de
from domainemo.core import PROVENANCE
from domainemo.errors import ConfigurationError, DataError
from domainemo.protocols.online import Online
from domainemo.reports.online import over_time_section
from domainemo.reports.run import write_run_report
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.online import minutes_since_start, over_time
from domainemo.runs.plan import plan
from domainemo.testing import FirstFold, check, with_random_target_labels
from domainemo.training.settings import Training

torch.set_num_threads(1)
CHOICES = {
    "adapter": "marginal",
    "backbone": "concatenation-mlp",
    "training": Training(epochs=1, batch_size=16),
    "device": "cpu",
}


@pytest.fixture(scope="module")
def data():
    made = de.Simulated(subjects=3, sessions=1, trials=6, windows=(3, 5)).load()
    return made.take(canonical(made.inputs))


def table(sessions):
    """Return provenance of subject 1 and 2; of the first, so many trials a session."""
    rows = [
        (subject, session, trial, f"clip {trial}", 2.0 * number)
        for subject in (1, 2)
        for session, trials in enumerate(sessions, 1)
        for trial in range(1, trials + 1)
        for number in range(1 + trial % 3)
    ]
    return pd.DataFrame(rows, columns=list(PROVENANCE))


# ---------------------------------------------------------------------------- the folds


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(5, 14), min_size=1, max_size=3),
    st.integers(2, 5),
    st.randoms(use_true_random=False),
)
def test_each_step_is_tested_by_all_of_its_past(sessions, steps, random):
    windows = table(sessions)
    order = random.sample(range(len(windows)), len(windows))
    windows = windows.iloc[order].reset_index(drop=True)
    folds = list(Online(steps=steps).split(windows))
    assert len(folds) == 2 * len(sessions) * (steps - 1)
    seen = {}
    for fold in folds:
        parts = {role: windows.iloc[rows] for role, rows in fold.parts.items()}
        target, test = parts["target"], parts["test"]
        who = {*zip(test["subject"], test["session"], strict=True)}
        assert len(who) == 1
        assert {*zip(target["subject"], target["session"], strict=True)} == who
        ((subject, session),) = who
        assert (parts["source"]["subject"] != subject).all()
        assert len(parts["source"]) == (windows["subject"] != subject).sum()
        # Whole trials, and no hole in time: the past is everything before the test.
        first, last = test["trial"].min(), test["trial"].max()
        session = windows[(windows["subject"] == subject)]
        session = session[session["session"] == test["session"].iloc[0]]
        past = session[session["trial"] < first]
        assert sorted(past.index) == sorted(fold.target)
        here = session[session["trial"].between(first, last)]
        assert sorted(here.index) == sorted(fold.test)
        seen.setdefault((subject, test["session"].iloc[0]), []).append(
            test["trial"].nunique()
        )
        assert fold.access == "inductive"
    for (_, session), counts in seen.items():
        whole = sessions[session - 1]
        assert max(counts) - min(counts) <= 1
        # The first part, which nobody tests, is as long as others, or one longer.
        assert whole - sum(counts) in (min(counts), max(counts), min(counts) + 1)


def test_trials_stand_in_natural_order():
    windows = table([12])
    windows["trial"] = "clip " + windows["trial"].astype(str)
    fold = next(Online(steps=4).split(windows))
    assert set(windows["trial"].iloc[fold.target]) == {f"clip {n}" for n in (1, 2, 3)}
    assert set(windows["trial"].iloc[fold.test]) == {f"clip {n}" for n in (4, 5, 6)}


def test_the_shipped_checks():
    check(Online)
    check(Online, options={"steps": 2})


def test_what_cannot_be_followed_is_refused():
    with pytest.raises(DataError, match=r"session 2 has 3 trials; expected at"):
        list(Online(steps=4).split(table([6, 3])))
    with pytest.raises(DataError, match="online: found one subject"):
        list(Online().split(table([6]).query("subject == 1").reset_index(drop=True)))
    with pytest.raises(ConfigurationError, match="steps is 1; expected at least 2"):
        Online(steps=1)


def test_a_target_of_one_class_is_refused(data):
    one = dataclasses.replace(data, labels=np.zeros_like(data.labels))
    with pytest.raises(DataError, match="holds a single class"):
        plan(one, experiment(protocol="online", **CHOICES))
    # Each step of one class, and all together of two: every fold is run.
    trial = data.inputs.windows["trial"].to_numpy()
    source = data.inputs.windows["subject"].to_numpy() != 1
    halves = np.where(source, trial % 2, (trial > 4).astype(int)).astype(np.int64)
    planned = plan(
        dataclasses.replace(data, labels=halves),
        experiment(protocol=FirstFold(Online(steps=2)), **CHOICES),
    )
    assert len(planned.folds) == 1


def test_steps_that_none_can_be_scored_by_are_refused(data):
    """Each of one class, though another from person to person."""
    names, codes = np.unique(data.inputs.windows["subject"], return_inverse=True)
    assert len(names) > 2
    trial = data.inputs.windows["trial"].to_numpy()
    later = trial > np.median(np.unique(trial))
    labels = np.where(later, codes % 2, trial % 2).astype(np.int64)
    with pytest.raises(DataError, match=r"every one of .* holds a single class"):
        plan(
            dataclasses.replace(data, labels=labels),
            experiment(protocol="online", options={"protocol.steps": 2}, **CHOICES),
        )


# ------------------------------------------------------------------------- the firewall


def run(data, output, **choices):
    protocol = FirstFold(Online(steps=3))
    chosen = {"protocol": protocol, "baselines": False, "output": output}
    return de.run(data, **CHOICES | chosen | choices)


@pytest.mark.parametrize("adapter", ["marginal", "none"])
def test_no_label_of_past_or_future_and_no_signal_of_the_future(
    data, tmp_path, adapter
):
    protocol = Online(steps=3)
    fold = next(protocol.split(data.inputs.windows))
    noisy = with_random_target_labels(data, protocol)
    assert (noisy.labels[fold.test] != data.labels[fold.test]).any()
    future = np.ones(len(data), bool)
    future[fold.used] = False
    assert future.any()
    signals = {name: each.copy() for name, each in data.inputs.signals.items()}
    generator = np.random.default_rng(0)
    for each in signals.values():
        each[future] = generator.normal(size=each[future].shape)
    inputs = dataclasses.replace(data.inputs, signals=signals)
    after = dataclasses.replace(noisy, inputs=inputs)
    for name, each in (("true", data), ("labels", noisy), ("future", after)):
        run(each, tmp_path / name, adapter=adapter)
    true, labels, later = (left(tmp_path / n) for n in ("true", "labels", "future"))
    assert true == labels == later


def test_a_window_is_predicted_alike_whatever_is_tested_beside_it(data, tmp_path):
    """Nothing is learned from what is tested, not even how to scale it."""
    fold = next(Online(steps=3).split(data.inputs.windows))
    trial = data.inputs.windows["trial"].to_numpy()
    other = fold.test[trial[fold.test] == trial[fold.test].max()]
    signals = {name: each.copy() for name, each in data.inputs.signals.items()}
    for each in signals.values():
        each[other] *= 3
    inputs = dataclasses.replace(data.inputs, signals=signals)
    changed = dataclasses.replace(data, inputs=inputs)
    first, second = (
        run(each, tmp_path / name).predictions
        for name, each in (("true", data), ("other", changed))
    )
    same = first["trial"] != first["trial"].max()
    columns = [name for name in first if name.startswith("p_")]
    assert same.any() and not same.all()
    pd.testing.assert_frame_equal(first[columns][same], second[columns][same])
    assert not first[columns].equals(second[columns])


# ---------------------------------------------------------------------------- over time


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(5, 12), min_size=1, max_size=2), st.integers(0, 9))
def test_minutes_are_those_of_a_clock_that_runs_through_the_trials(sessions, seed):
    windows = table(sessions).sample(frac=1, random_state=seed).reset_index(drop=True)
    found = minutes_since_start(windows)
    expected = {}
    for place, session in windows.groupby(["subject", "session"]):
        clock = 0.0
        for trial in sorted(session["trial"].unique()):
            rows = session[session["trial"] == trial].sort_values("start")
            for start in rows["start"]:
                expected[(*place, trial, start)] = clock / 60
                clock += 2.0  # a window every two seconds
    place = windows[["subject", "session", "trial", "start"]].itertuples(index=False)
    np.testing.assert_allclose(found, [expected[tuple(each)] for each in place])


def test_minutes_are_not_known_where_windows_stand_alone():
    windows = table([6]).drop_duplicates(["subject", "trial"]).reset_index(drop=True)
    assert np.isnan(minutes_since_start(windows)).all()


def predictions():
    """Return made-up predictions of six people, in two steps, with two seeds."""
    generator = np.random.default_rng(0)
    rows = []
    for subject in range(6):
        for step in (2, 3):
            for trial in range(4):
                for seed in (0, 1):
                    label = trial % 2 if step == 3 else 0 if subject else trial % 2
                    p = generator.uniform()
                    minutes = 10.0 * step + trial + subject
                    fold = f"subject {subject}, session 1, step {step}"
                    rows.append((fold, seed, subject, label, p, 1 - p, minutes))
    columns = ["fold", "seed", "subject", "label", "p_a", "p_b", "minutes"]
    made = pd.DataFrame(rows, columns=columns)
    return made.assign(method="m", session=1)


def by_hand(rows):
    """Return each subject's balanced accuracy, by counting."""
    found = []
    for _, theirs in rows.groupby("subject"):
        seeds = []
        for _, each in theirs.groupby("seed"):
            right = (each["p_b"] > each["p_a"]).astype(int) == each["label"]
            if each["label"].nunique() == 2:
                seeds.append(right.groupby(each["label"]).mean().mean())
        if seeds:
            found.append(np.mean(seeds))
    return found


def test_the_table_is_what_counting_gives():
    made = predictions()
    found = over_time(made).set_index("step")
    second, third = (made[made["fold"].str.endswith(str(step))] for step in (2, 3))
    assert found.loc[2, "subjects"] == 1 == len(by_hand(second))
    assert found.loc[3, "subjects"] == 6
    assert found.loc[3, "balanced_accuracy"] == pytest.approx(np.mean(by_hand(third)))
    assert found.loc[3, "prequential"] == pytest.approx(np.mean(by_hand(made)))
    assert found.loc[2, "prequential"] == found.loc[2, "balanced_accuracy"]
    assert found.loc[2, "minutes"] == pytest.approx(20 + np.mean(range(6)))
    assert found.loc[3, "chance"] == found.loc[2, "chance"] == 0.5  # of two classes
    low, high = found.loc[3, ["low", "high"]]
    assert low < found.loc[3, "balanced_accuracy"] < high
    assert np.isnan(found.loc[2, "low"])
    assert over_time(made.drop(columns="minutes")) is None


def test_a_run_is_told_over_time_and_goes_on(data, tmp_path, monkeypatch):
    output = tmp_path / "run"
    choices = {"protocol": "online", "options": {"protocol.steps": 3}, "output": output}
    choices |= CHOICES
    results = de.run(data, controls=["majority-class"], **choices)
    windows = data.inputs.windows
    tested = results.predictions[results.predictions["method"] == "marginal"]
    trial = windows.groupby("subject")["trial"].max()
    assert set(tested["trial"]) == {3, 4, 5, 6} and set(trial) == {6}
    steps = results.over_time()
    assert list(steps["step"]) == [2, 3] * 3
    kept = pd.read_csv(output / "online.csv")
    np.testing.assert_allclose(kept["minutes"], steps["minutes"])
    place = ["subject", "trial", "start"]
    minutes = minutes_since_start(windows)
    known = (
        windows[place]
        .assign(minutes=minutes)
        .merge(tested[[*place, "minutes"]], on=place)
    )
    np.testing.assert_allclose(known["minutes_x"], known["minutes_y"])
    before = left(output)
    (output / "online.csv").unlink()
    shutil.rmtree(next((output / "folds").iterdir()))
    again = de.run(data, controls=["majority-class"], **choices)
    assert left(output) == before
    pd.testing.assert_frame_equal(again.over_time(), steps)
    assert (output / "online.csv").exists()
    monkeypatch.setattr("domainemo.reports.page.render", undrawn)
    write_run_report(output)
    assert "Over time" in (output / "report.html").read_text(encoding="utf-8")
    (axes,) = over_time_section(results).blocks[0].draw().axes
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    own = steps[steps["method"] == "marginal"]
    drawn = own[["minutes", "balanced_accuracy"]].to_numpy()
    np.testing.assert_array_equal(lines["marginal"], drawn)
    assert "inductive" in results.how() and "online (steps 3)" in results.how()
