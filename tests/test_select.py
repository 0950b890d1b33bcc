"""Finished runs: which one would be chosen, and that no label is opened for it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import domainemo as de
from domainemo.cli.commands import app
from domainemo.errors import ConfigurationError
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.testing import FirstFold, with_random_target_labels
from domainemo.validators.rank_average import average_ranks

SMALL = {"backbone.width": 4, "backbone.hidden": [4], "backbone.fusion_width": 4}
FOLDS = ("subject 1", "subject 2")


@pytest.fixture(scope="module")
def data():
    return de.Simulated(subjects=4, sessions=1, trials=6, windows=(3, 5)).load()


def run(data, output, adapter="marginal", **choices):
    chosen = {
        "validator": "source",
        "seeds": [0, 1],
        "folds": FOLDS,
        "controls": "none",
    }
    chosen["training"] = de.Training(epochs=4, batch_size=16, learning_rate=0.01)
    de.run(
        data,
        adapter=adapter,
        backbone="concatenation-mlp",
        options=SMALL,
        device="cpu",
        output=output,
        **chosen | choices,
    )
    return output


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return [run(data, place / name, name) for name in ("marginal", "bnm")]


def records(folder, adapter):
    paths = sorted(folder.glob(f"folds/*/*/{adapter}/record.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return {(each["fold"], each["seed"]): each for each in found}


def untimed(found):
    return {
        key: [{k: v for k, v in row.items() if k != "seconds"} for row in value]
        if isinstance(value, list)
        else value
        for key, value in found.record().items()
    }


# ------------------------------------------------------------------------- the choice


def test_the_highest_mean_rank_over_folds_and_seeds_is_chosen(runs):
    found = de.select(*runs)
    told = {
        ("marginal", "marginal"): records(runs[0], "marginal"),
        ("marginal", "source only"): records(runs[0], "none"),
        ("bnm", "bnm"): records(runs[1], "bnm"),
    }
    scores = dict.fromkeys(told, 0.0)
    for place in next(iter(told.values())):
        rows = [
            [
                each[place]["scores"][n]["score"]
                for n in ("source", "reverse-validation", "class-ami")
            ]
            for each in told.values()
        ]
        for name, rank in zip(told, average_ranks(rows), strict=True):
            scores[name] += rank / 4
    table = found.choices.set_index(["run", "method"])
    for name, score in scores.items():
        assert table["score"][name] == pytest.approx(score)
    # Source only of the second run is the very same, and no choice of its own.
    assert len(table) == 3
    sound = table[table["sound"]] if table["sound"].any() else table
    assert (found.run, found.method) == sound["score"].idxmax()
    assert list(found.folds["fold"]) == list(FOLDS)


def test_a_single_score_is_averaged_as_it_is(runs):
    found = de.select(runs[1], validator="entropy")
    for method, adapter in (("bnm", "bnm"), ("source only", "none")):
        each = records(runs[1], adapter).values()
        expected = np.mean([r["scores"]["entropy"]["score"] for r in each])
        (row,) = found.choices[found.choices["method"] == method].itertuples()
        assert row.score == row.alone == pytest.approx(expected)
        seconds = sum(r["scores"]["entropy"]["seconds"] for r in each)
        assert row.seconds == pytest.approx(seconds)


def test_a_failed_score_is_not_left_out_of_the_mean(runs, tmp_path):
    """Else whoever fails where it is hard would look good."""
    copy = shutil.copytree(runs[1], tmp_path / "failed")
    for path in copy.rglob("files.json"):
        path.unlink()
    path = min(copy.glob("folds/*/*/bnm/record.json"))
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["scores"]["entropy"]["score"] = None
    path.write_text(json.dumps(facts), encoding="utf-8")
    table = de.select(copy, validator="entropy").choices.set_index("method")
    assert table.loc["bnm", ["score", "alone"]].tolist() == [-np.inf, -np.inf]
    assert np.isfinite(table.loc["source only", "alone"])


def test_not_to_adapt_wins_where_nothing_scores_higher(data, tmp_path):
    alike = run(data, tmp_path / "a", "dann", folds=FOLDS[:1], seeds=[0])
    found = de.select(alike, validator="mmd")
    # Made equal: the simpler thing is taken.
    for path in alike.rglob("files.json"):
        path.unlink()
    for path in alike.glob("folds/*/*/*/record.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts["scores"]["mmd"]["score"] = 0.25
        path.write_text(json.dumps(facts), encoding="utf-8")
    found = de.select(alike, validator="mmd")
    assert found.method == "source only" and not found.adapts
    assert "That is not to adapt." in found.sentences()


def test_what_has_collapsed_stands_behind_all_others(runs, tmp_path):
    copy = shutil.copytree(runs[1], tmp_path / "collapsed")
    for path in copy.rglob("files.json"):
        path.unlink()
    for path in copy.glob("folds/*/*/bnm/predictions.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        arrays["probabilities"] = np.eye(3, dtype=np.float32)[
            np.zeros(len(arrays["probabilities"]), dtype=int)
        ]
        np.savez(path, **arrays)
        record = path.with_name("record.json")
        facts = json.loads(record.read_text(encoding="utf-8"))
        facts["scores"]["entropy"]["score"] = 0.0  # nothing is surer
        record.write_text(json.dumps(facts), encoding="utf-8")
    for path in copy.glob("folds/*/*/none/record.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts |= {"predicted": [0, 1, 2], "held_out": 0.9}
        path.write_text(json.dumps(facts), encoding="utf-8")
    found = de.select(copy, validator="entropy")
    table = found.choices.set_index("method")
    assert table.loc["bnm", "score"] == 0.0 > table.loc["source only", "score"]
    assert table["sound"].to_dict() == {"bnm": False, "source only": True}
    assert list(table.index) == ["source only", "bnm"]
    assert found.method == "source only"
    assert set(found.folds["method"]) == {"source only"}
    assert any("leave out a class" in line for line in found.sentences())


# ----------------------------------------------------------------------- the firewall


def test_the_tables_with_labels_are_not_needed(runs, tmp_path):
    """What is left of a folder names no label, and says the same."""
    bare = []
    for folder in runs:
        copy = shutil.copytree(folder, tmp_path / folder.name)
        for path in copy.iterdir():
            if path.is_file() and path.name not in ("config.toml", "environment.json"):
                path.unlink()
        bare.append(copy)
    assert not list(tmp_path.rglob("*.parquet")) and not list(
        tmp_path.rglob("*.csv.gz")
    )
    for path in tmp_path.rglob("predictions.npz"):
        with np.load(path) as file:
            assert set(file) == {"members", "probabilities", "trace"}
    for validator in ("rank-average", "guarded", "ensemble-agreement"):
        whole, cut = (de.select(*each, validator=validator) for each in (runs, bare))
        assert whole.record() == cut.record()


def test_noise_in_the_targets_labels_changes_no_choice(data, tmp_path):
    protocol = CrossSubject()
    noisy = with_random_target_labels(data, protocol)
    assert (noisy.labels != data.labels).any()
    found = []
    for name, each in (("true", data), ("noise", noisy)):
        place = tmp_path / name
        cut = {"protocol": FirstFold(protocol), "folds": (), "seeds": [0]}
        runs = [run(each, place / a, a, **cut) for a in ("marginal", "bnm")]
        names = ["rank-average", "guarded", "ensemble-agreement", "mixval"]
        found.append([untimed(de.select(*runs, validator=v)) for v in names])
        labels = pd.read_parquet(place / "bnm" / "predictions.parquet")["label"]
        found[-1].append(labels.tolist())
    assert found[0][:-1] == found[1][:-1]
    assert found[0][-1] != found[1][-1]


def test_a_fold_alone_is_chosen_for_by_nothing_of_another(runs, tmp_path):
    """Whom one fold tests trains the others, which so know these people's labels."""
    first, second = FOLDS
    cut = [shutil.copytree(each, tmp_path / each.name) for each in runs]
    for path in tmp_path.rglob("files.json"):
        path.unlink()

    def change(folds, adapter, **changes):
        for path in tmp_path.glob(f"*/folds/*/*/{adapter}/record.json"):
            facts = json.loads(path.read_text(encoding="utf-8"))
            facts |= changes if facts["fold"] in folds else {}
            path.write_text(json.dumps(facts), encoding="utf-8")

    change(FOLDS, "*", predicted=[0, 1, 2], held_out=0.9)
    before = de.select(*cut, validator="bnm")
    alone = before.folds.set_index("fold").loc[first]
    assert before.choices["sound"].all()
    chosen = "none" if alone["method"] == "source only" else alone["method"]
    change([second], chosen, held_out=-0.9)  # in the mean it has collapsed
    after = de.select(*cut, validator="bnm")
    assert not after.choices.set_index("method")["sound"][alone["method"]]
    pd.testing.assert_series_equal(after.folds.set_index("fold").loc[first], alone)


def test_it_is_said_that_other_folds_know_labels(runs, tmp_path, data):
    told = "know their labels"
    assert told in de.select(*runs).sentences()[-1]
    one = run(data, tmp_path / "one", folds=FOLDS[:1], seeds=[0])
    assert not any(told in line for line in de.select(one).sentences())


# ------------------------------------------------------------------------ what is told


def test_what_cannot_be_chosen_is_explained(data, runs, tmp_path):
    one = {"folds": FOLDS[:1], "seeds": [0]}
    last = run(data, tmp_path / "last", validator="last", **one)
    with pytest.raises(ConfigurationError, match="no source domain was held out"):
        de.select(last)
    assert de.select(last, validator="bnm").validator == "bnm"
    with pytest.raises(
        ConfigurationError, match=r"only one of them has subject 1, seed 1"
    ):
        de.select(runs[0], last, validator="bnm")
    alone = run(data, tmp_path / "alone", baselines=False, **one)
    with pytest.raises(ConfigurationError, match="no source only"):
        de.select(alone)
    oracle = run(data, tmp_path / "oracle", validator="oracle", **one)
    with pytest.raises(ConfigurationError, match="ORACLE"):
        de.select(oracle)
    with pytest.raises(ConfigurationError, match="Did you mean 'bnm'"):
        de.select(last, validator="bmn")
    with pytest.raises(ConfigurationError, match="tells epochs of one training apart"):
        de.select(last, validator="last")
    with pytest.raises(ConfigurationError, match="same folder twice"):
        de.select(last, last)
    with pytest.raises(ConfigurationError, match="no run to choose from"):
        de.select()


def test_runs_that_answer_different_questions_are_refused(data, tmp_path):
    one = {"folds": FOLDS[:1], "seeds": [0], "validator": "entropy"}
    whole = run(data, tmp_path / "whole", **one)
    half = run(data, tmp_path / "half", protocol=CrossSubject(held_out=0.5), **one)
    with pytest.raises(ConfigurationError, match=r"their protocol.* differ"):
        de.select(whole, half, validator="bnm")
    other = de.Simulated(
        subjects=4, sessions=1, trials=6, windows=(3, 5), seed=1
    ).load()
    new = run(other, tmp_path / "new", **one)
    with pytest.raises(ConfigurationError, match="recordings differ"):
        de.select(whole, new, validator="bnm")


def test_the_command_prints_the_table_and_the_sentence(runs):
    runner = CliRunner()
    shown = runner.invoke(app, ["select", *map(str, runs)])
    found = de.select(*runs)
    assert shown.exit_code == 0
    said = " ".join(shown.stdout.split())
    for line in found.sentences():
        assert " ".join(line.split()) in said
    answer = runner.invoke(app, ["select", *map(str, runs), "--json"])
    told = json.loads(answer.stdout)
    assert told.pop("sentences") == found.sentences()
    assert told == found.record()


@pytest.mark.parametrize("function", [de.select, de.compare])
@pytest.mark.parametrize("given", [["runs/a", "runs/b"], 3])
def test_folders_are_given_one_by_one(function, given):
    with pytest.raises(ConfigurationError, match=r"given one by one: \w+\(\*folders\)"):
        function(given)
