"""Controls that are the run's own training again, with one thing changed."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import domainemo as de
from domainemo.cli import main
from domainemo.cli.screens import show_results
from domainemo.controls.labels_shuffled import LabelsShuffled
from domainemo.files import find_damage
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.reports.run import write_run_report
from domainemo.reports.run_words import cautions, leaks
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.folder import job_folder
from domainemo.runs.memory import memory_needed
from domainemo.runs.plan import plan
from domainemo.runs.record import load_record
from domainemo.testing import FirstFold, check, checks, with_random_target_labels

SHUFFLED, WITHHELD = "labels shuffled", "target statistics withheld"
BOTH = ["labels-shuffled", "target-statistics-withheld"]
SMALL = {
    "backbone": "concatenation-mlp",
    "adapter": "marginal",
    "device": "cpu",
    "options": {"training.epochs": 1},
}


@pytest.fixture(scope="module")
def data():
    made = de.Simulated(subjects=3, sessions=1, trials=6, windows=(3, 4)).load()
    return made.take(canonical(made.inputs))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of both controls with two seeds, and its folder."""
    folder = tmp_path_factory.mktemp("run")
    found = de.run(data, controls=BOTH, seeds=[0, 1], output=folder, **SMALL)
    return found, folder


def trial_labels(windows, labels):
    """Return each trial's label, by subject and trial; every window must have it."""
    found = {}
    for (_, row), label in zip(windows.iterrows(), labels, strict=True):
        key = (row["subject"], row["session"], row["trial"])
        assert found.setdefault(key, int(label)) == int(label)
    return found


def test_trials_of_one_subject_exchange_their_labels(data):
    windows = data.inputs.windows
    found = LabelsShuffled().relabel(
        windows, data.labels.copy(), np.random.default_rng(3)
    )
    before, after = (trial_labels(windows, y) for y in (data.labels, found))
    assert before != after
    for subject in windows["subject"].unique():
        counts = [
            Counter(y for key, y in each.items() if key[0] == subject)
            for each in (before, after)
        ]
        assert counts[0] == counts[1]
    # Each subject's trials are shuffled on their own.
    orders = {
        tuple(y for key, y in sorted(after.items()) if key[0] == subject)
        for subject in windows["subject"].unique()
    }
    assert len(orders) > 1


def test_every_permutation_of_a_subjects_trials_is_as_likely():
    windows = pd.DataFrame(
        {"subject": 1, "session": 1, "trial": [1, 1, 2, 3], "stimulus": 0, "start": 0.0}
    )
    labels, generator = np.array([0, 0, 1, 2]), np.random.default_rng(0)
    counts = Counter(
        tuple(LabelsShuffled().relabel(windows, labels.copy(), generator)[1:])
        for _ in range(3000)
    )
    assert len(counts) == 6
    # Five standard deviations of 500 expected of each.
    assert all(abs(count - 500) < 5 * np.sqrt(500 * 5 / 6) for count in counts.values())


def test_they_are_trained_with_every_seed_and_stand_in_the_tables(finished):
    results, folder = finished
    assert results.controls == [SHUFFLED, WITHHELD] == results.retrainings
    for name in results.controls:
        rows = results.table[results.table["method"] == name]
        assert set(rows["seed"]) == {0, 1} and rows["fold"].nunique() == 3
        assert set(rows["backbone"]) == {"concatenation-mlp"}
    assert list(results.summary().index)[:2] == ["marginal", "source only"]
    told = results.table.groupby("method")["normalisation"].first()
    assert told[SHUFFLED] == told["marginal"]
    assert told[WITHHELD].endswith("withheld: learned from the source alone")
    seen = results.table.groupby("method")["target_seen"].first()
    assert seen[SHUFFLED] == seen["marginal"]
    assert seen[WITHHELD] == "target's windows seen in training, unlabelled"
    place = job_folder(folder, "subject 1", 0, SHUFFLED)
    assert find_damage(place) is None
    assert not (place / "model.safetensors").exists(), "nobody predicts with it"


def test_withheld_is_the_same_run_normalised_by_the_source(data, finished):
    results, _ = finished
    choices = {**SMALL, "normalisation": "source", "controls": "none"}
    other = de.run(data, seeds=[0, 1], **choices)
    columns = [name for name in other.predictions if name.startswith("p_")]
    one, two = (
        each.predictions[each.predictions["method"] == method]
        .sort_values(["seed", "fold", "trial", "start"])[columns]
        .to_numpy()
        for each, method in ((results, WITHHELD), (other, "marginal"))
    )
    assert np.array_equal(one, two)


def test_the_result_itself_is_as_without_them(data, finished):
    results, _ = finished
    alone = de.run(data, seeds=[0, 1], controls="none", **SMALL)
    for method in ("marginal", "source only"):
        one, two = (each.per_subject()[method].to_numpy() for each in (results, alone))
        assert np.array_equal(one, two)


def test_labels_of_the_target_reach_none_of_them(data, tmp_path):
    protocol = FirstFold(CrossSubject())
    noisy = with_random_target_labels(data, protocol)
    folders = []
    for name, each in (("true", data), ("noise", noisy)):
        output = tmp_path / name
        de.run(each, protocol=protocol, controls=BOTH, output=output, **SMALL)
        folders.append(output)
    for method in (SHUFFLED, WITHHELD):
        one, two = (
            load_record(job_folder(folder, "subject 1", 0, method))
            for folder in folders
        )
        assert np.array_equal(one.probabilities, two.probabilities)


def test_calibration_is_shuffled_too(data):
    """Given labels of the target would tell what shuffled ones must not."""

    class Given(de.Protocol):
        domain = "subject"

        def split(self, windows):
            own = windows["subject"].to_numpy() == 1
            first = np.isin(windows["trial"].to_numpy(), [1, 2, 5])
            target = np.flatnonzero(own & ~first)
            source = np.flatnonzero(~own)
            yield de.Fold("one", source, target, target, np.flatnonzero(own & first))

    planned = plan(data, experiment(protocol=Given(), controls=BOTH, **SMALL))
    job = next(j for j in planned.jobs(Path("run")) if j.method == SHUFFLED)
    windows, given = planned.inputs.windows, job.fold.calibration
    true = trial_labels(windows.iloc[given], planned.labels[given])
    shuffled = []
    for seed in range(8):
        again = replace(job, seed=seed).as_trained(windows)
        place = np.isin(again.labelled, given)
        shuffled.append(trial_labels(windows.iloc[given], again.source_labels[place]))
    assert any(each != true for each in shuffled)
    assert all(Counter(e.values()) == Counter(true.values()) for e in shuffled)


def test_each_fold_and_seed_has_a_shuffle_of_its_own(data):
    planned = plan(data, experiment(controls=BOTH, seeds=[0, 1], **SMALL))
    jobs = [j for j in planned.jobs(Path("run")) if j.method == SHUFFLED]
    windows = planned.inputs.windows
    twice = [[tuple(j.as_trained(windows).source_labels) for j in jobs] for _ in "ab"]
    assert twice[0] == twice[1]
    of_one_fold = [
        y for y, j in zip(twice[0], jobs, strict=True) if j.fold.name == "subject 1"
    ]
    assert len(set(of_one_fold)) == 2
    # They take no more memory than the network that they train.
    networks = [j for j in planned.jobs(Path("run")) if j.control is None]
    assert memory_needed(data.inputs, jobs) == memory_needed(data.inputs, networks)


def test_a_finished_one_is_kept_and_a_missing_one_is_trained_anew(data, finished):
    results, folder = finished
    kept, lost = (job_folder(folder, "subject 2", 1, m) for m in (SHUFFLED, WITHHELD))
    before = (kept / "predictions.npz").stat().st_mtime_ns
    for path in sorted(lost.rglob("*"), reverse=True):
        path.unlink()
    lost.rmdir()
    again = de.run(data, controls=BOTH, seeds=[0, 1], output=folder, **SMALL)
    assert (kept / "predictions.npz").stat().st_mtime_ns == before
    assert again.per_subject().equals(results.per_subject())


def test_command_line_and_report_show_them(finished, capsys, monkeypatch):
    results, folder = finished
    show_results(results, folder)
    shown = " ".join(capsys.readouterr().out.split())
    assert SHUFFLED in shown and WITHHELD in shown
    write_run_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    for name in (SHUFFLED, WITHHELD):
        assert page.count(name) > 3
    assert "learned from the source alone" in page or "source alone shows" in page
    monkeypatch.setattr("sys.argv", ["domainemo", "list", "controls"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    shown = capsys.readouterr().out
    for name in ("labels-shuffled", "clip-identity", "order-in-session"):
        assert name in shown


def reached(values, method=SHUFFLED):
    """Return results in which a control reaches these values in eight subjects."""
    rows = [
        {
            "method": name,
            "fold": f"subject {subject}",
            "seed": 0,
            "subject": subject,
            "level": level,
            "balanced_accuracy": value,
            "backbone": "network",
            "sampling": "windows",
        }
        for name, each in (("marginal", [0.5] * 8), (method, values))
        for subject, value in enumerate(each)
        for level in ("window", "trial")
    ]
    columns = {"p_a": [0.5], "p_b": [0.2], "p_c": [0.3]}
    told = {"controls": [method.replace(" ", "-")]}
    return de.Results(pd.DataFrame(rows), pd.DataFrame(columns), told, "marginal")


def answers(given):
    """Return answers of the classes given, as often each, of people who have two."""
    rows = [
        {"method": method, "fold": f"subject {subject}", "seed": 0}
        | {"subject": subject, "label": label, "predicted": predicted}
        | {"p_a": 0.5, "p_b": 0.2, "p_c": 0.3}
        for method in ("marginal", SHUFFLED)
        for subject in range(8)
        for label in (0, 1)
        for predicted in given
    ]
    return pd.DataFrame(rows)


def test_shuffled_labels_above_chance_are_called_a_leak():
    above, around = np.linspace(0.4, 0.5, 8), np.linspace(0.25, 0.42, 8)
    (said,) = leaks(reached(above))
    assert "the evaluation leaks" in said and "0.450" in said
    assert leaks(reached(around)) == []
    assert leaks(reached(above, WITHHELD)) == []
    # Half of people's answers are right where they have two classes of the three,
    # in training and in the test; that is no leak.
    half = reached(np.linspace(0.45, 0.6, 8))
    assert len(leaks(half)) == 1
    assert leaks(replace(half, predictions=answers((0, 1)))) == []
    # Where training had the third class as well, a third of the answers are of it.
    (said,) = leaks(replace(half, predictions=answers((0, 1, 2))))
    assert "where chance is 0.333: the evaluation leaks" in said
    # No simpler model, though it does better than the result.
    assert cautions(reached(np.full(8, 0.6), WITHHELD)) == []


class Unchanged(de.Retraining):
    """Change nothing."""

    words = "the run itself"


class ByWindow(de.Retraining):
    """Shuffle windows, and take no heed of trials."""

    words = "labels shuffled among windows"

    def relabel(self, windows, labels, generator):
        return generator.permutation(labels)


def test_the_shipped_checks_refuse_what_is_no_retraining():
    for cls in (LabelsShuffled,):
        check(cls)
    with pytest.raises(AssertionError, match="neither other labels nor another"):
        check(Unchanged)
    (labels,) = (each for each in checks(ByWindow) if each.name == "labels")
    with pytest.raises(AssertionError, match="labels in the windows of one trial"):
        labels()


def test_labels_that_are_none_are_refused(data):
    class Wrong(ByWindow):
        def relabel(self, windows, labels, generator):
            return labels + 1

    with pytest.raises(
        de.DomainemoError, match=r"relabel returned .* 0 to 2, for each"
    ):
        de.run(data, controls=[Wrong()], folds=["subject 1"], **SMALL)
