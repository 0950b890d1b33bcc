"""The study report: numbers against slow loops, plain words, figures at all sizes."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import matplotlib
import numpy as np
import optuna
import pandas as pd
import pytest
from matplotlib.text import Text
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from scipy.stats import rankdata, wilcoxon

from domainemo.reports import study as report
from domainemo.reports import study_numbers
from domainemo.reports.outliers import outlying
from domainemo.reports.page import Code, Figure, Note, Table
from domainemo.reports.study import study_sections, write_study_report
from domainemo.reports.study_figures import (
    draw_agreement,
    draw_folds,
    draw_history,
    draw_parallel,
    draw_slices,
)
from domainemo.reports.study_numbers import (
    Option,
    agreement,
    best_so_far,
    comparable,
    cost,
    importances,
    objectives,
    projected,
    searched_options,
    smooth,
    source_only_scores,
)
from domainemo.reports.study_words import (
    how_far_off,
    what_it_gained,
    what_mattered,
    what_was_chosen,
    who_was_tested,
)
from domainemo.reports.style import STYLE
from domainemo.runs.results import Results
from domainemo.statistics.paired import compare
from domainemo.studies.findings import Choice, Findings
from domainemo.studies.storage import quiet

WEIGHTS = ("marginal", "conditional", "consistency", "distillation", "pairwise")
NAMES = [f"adapter.{name}" for name in WEIGHTS]
RULES = ("pooled", "calibrated", "absolute")
SPACE = {
    **{name: FloatDistribution(0.01, 10, log=True) for name in NAMES},
    "adapter.rule": CategoricalDistribution(RULES),
}
BEST = {"adapter.marginal": 0.5, "adapter.conditional": -1.0}
"""Logarithms of the best weights; the other options change nothing."""

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
COMMAND = "domainemo adapt --config studies/eegmat/chosen.toml"


def worth(options):
    """Return what a configuration is worth: a weight off its best costs accuracy."""
    costs = {"adapter.marginal": 0.05, "adapter.conditional": 0.025}
    gaps = {name: math.log10(options[name]) - best for name, best in BEST.items()}
    return 0.74 - sum(costs[name] * gaps[name] ** 2 for name in costs)


def drawn(generator):
    options = {name: float(10 ** generator.uniform(-2, 1)) for name in NAMES}
    return {**options, "adapter.rule": str(generator.choice(RULES))}


def one_study(name, states, folds, generator, objectives=1, noise=0.012):
    """Return an Optuna study, its candidates' rows and its scores' rows."""
    directions = ["maximize", "minimize"][:objectives]
    with quiet():
        study = optuna.create_study(study_name=name or "study", directions=directions)
    began = datetime(2026, 5, 4, 9, 0, 0)
    rows, scores = [], []
    for number, state in enumerate(states):
        default = number == 0
        options = drawn(generator)
        if default:
            options = {**dict.fromkeys(NAMES, 1.0), "adapter.rule": "pooled"}
        finished = {
            TrialState.COMPLETE: len(folds),
            TrialState.PRUNED: max(len(folds) // 4, 1),
            TrialState.RUNNING: 1,
        }.get(state, 0)
        theirs = []
        for fold in folds[:finished]:
            hard = 0.08 * math.sin(float(fold.split()[-1]))
            true = worth(options) + hard + noise * generator.normal()
            theirs.append(
                {
                    "study": name,
                    "candidate": number,
                    "fold": fold,
                    "seed": 0,
                    "epoch": 20,
                    "score": true + 0.25 + 1.5 * noise * generator.normal(),
                    "source_accuracy": true + 0.06 + noise * generator.normal(),
                    "seconds": float(generator.uniform(9, 14)),
                    "true_accuracy": true,
                }
            )
        scores += theirs
        value = float(np.mean([s["score"] for s in theirs])) if theirs else math.nan
        seconds = sum(s["seconds"] for s in theirs) or 2.0
        done = state == TrialState.COMPLETE
        values = [value, seconds][:objectives] if done else None
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params={} if state == TrialState.WAITING else options,
                distributions={} if state == TrialState.WAITING else SPACE,
                values=values,
            )
        )
        reason = {
            TrialState.PRUNED: "below the median of the others after fold 3",
            TrialState.FAIL: "RunError: the loss became infinite in epoch 7",
        }.get(state, "")
        open_ = state in (TrialState.RUNNING, TrialState.WAITING)
        rows.append(
            {
                "study": name,
                "candidate": number,
                "default": default,
                "state": STATES[state],
                "value": value if done else math.nan,
                "reason": reason,
                "retry_of": pd.NA,
                "seconds": math.nan if open_ else seconds,
                "began": pd.NaT if state == TrialState.WAITING else began,
                "worker": f"lab-{number % 2}:4{number % 2}1",
                **({} if state == TrialState.WAITING else options),
            }
        )
        began += timedelta(seconds=seconds / 2)
    for fold in folds:
        hard = 0.08 * math.sin(float(fold.split()[-1]))
        scores.append(
            {
                "study": name,
                "candidate": -1,
                "fold": fold,
                "seed": 0,
                "epoch": 20,
                "score": 0.9 + hard,
                "source_accuracy": 0.72 + hard,
                "seconds": 6.0,
                "true_accuracy": 0.66 + hard,
            }
        )
    return study, rows, scores


def final_runs(subjects, gain, generator, spread=0.03):
    """Return results in which tuned is better than the defaults by `gain`."""
    rows = []
    methods = {
        "tuned": 0.70 + gain,
        "defaults": 0.70,
        "source only": 0.66,
        "logistic regression": 0.64,
        "majority class": 0.5,
    }
    for subject in subjects:
        easy = 0.1 * generator.normal()
        for method, level in methods.items():
            for seed in (100, 101, 102):
                accuracy = level + easy + spread * generator.normal()
                if method == "majority class":
                    accuracy = 0.5
                rows.append(
                    {
                        "method": method,
                        "fold": f"subject {subject}",
                        "seed": seed,
                        "subject": subject,
                        "level": "trial",
                        "balanced_accuracy": float(np.clip(accuracy, 0, 1)),
                        "dataset": "eegmat (36 subjects, EEG and ECG)",
                        "modalities": "eeg, ecg",
                        "protocol": "cross-subject (domain subject)",
                        "access": "transductive",
                        "target_seen": "target's windows seen in training, unlabelled",
                        "normalisation": "z-scores per session",
                        "sampling": "sequences (length 10)",
                        "selection": "source-and-information",
                        "backbone": "r2gfanet",
                        "version": "0.1.0",
                    }
                )
    description = {
        "seeds": [100, 101, 102],
        "options": {"training.epochs": 40},
    }
    return Results(pd.DataFrame(rows), pd.DataFrame(), description, "tuned")


def described(space=SPACE, **study):
    return {
        "domainemo": "0.1.0",
        "dataset": "eegmat",
        "protocol": "cross-subject",
        "backbone": "r2gfanet",
        "adapter": "uf-ama",
        "validator": "source-and-information",
        "normalisation": "session",
        "seeds": [0],
        "options": {**dict.fromkeys(NAMES, 1.0), "adapter.rule": "pooled"},
        "space": {
            name: "0.01 to 10, logarithmic"
            if isinstance(each, FloatDistribution)
            else ", ".join(RULES)
            for name, each in space.items()
        },
        "study": {
            "candidates": 30,
            "sampler": "tpe",
            "pruner": "median",
            "objectives": ["validator"],
            "select": "global-source",
            "development": [str(number) for number in range(1, 13)],
            "seed": 0,
            "storage": "sqlite",
            **study,
        },
    }


SCORES = (
    "study",
    "candidate",
    "fold",
    "seed",
    "epoch",
    "score",
    "source_accuracy",
    "seconds",
    "true_accuracy",
)
CANDIDATES = (
    "study",
    "candidate",
    "default",
    "state",
    "value",
    "reason",
    "retry_of",
    "seconds",
    "began",
    "worker",
)


def joined(parts, description, choose=True, final=None):
    """Return findings of one study, or of one for each fold."""
    candidates = pd.DataFrame([row for _, rows, _ in parts.values() for row in rows])
    for name in CANDIDATES:
        if name not in candidates:
            candidates[name] = pd.Series(dtype=object)
    candidates["retry_of"] = candidates["retry_of"].astype("Int64")
    candidates["began"] = pd.to_datetime(candidates["began"])
    scores = pd.DataFrame([row for *_, rows in parts.values() for row in rows])
    if not len(scores):
        scores = pd.DataFrame(columns=list(SCORES))
    choices = []
    done = candidates[candidates["state"] == "complete"]
    for name in parts if choose else ():
        theirs = done[done["study"] == name]
        if not len(theirs):
            continue
        best = theirs.loc[theirs["value"].astype(float).idxmax()]
        options = {option: best[option] for option in SPACE}
        choices.append(
            Choice(
                name or None, int(best["candidate"]), best["value"], options, COMMAND
            )
        )
    return Findings(
        folder=Path("studies/eegmat"),
        name="uf-ama on r2gfanet, eegmat",
        recordings="eegmat (36 subjects, EEG and ECG)",
        description=description,
        studies={name: study for name, (study, *_) in parts.items()},
        candidates=candidates,
        scores=scores,
        choices=choices,
        final=final,
    )


def realistic(seed=0, objectives=1, gain=0.04):
    """Thirty candidates of six options on twelve folds; eight pruned, one failed."""
    generator = np.random.default_rng(seed)
    states = [TrialState.COMPLETE] * 30
    for number in (7, 9, 12, 13, 17, 21, 24, 28):
        states[number] = TrialState.PRUNED
    states[15] = TrialState.FAIL
    folds = [f"subject {number}" for number in range(1, 13)]
    names = ["validator", "seconds"][:objectives]
    final = final_runs(range(13, 37), gain, generator)
    part = one_study("", states, folds, generator, objectives)
    return joined({"": part}, described(objectives=names), final=final)


def per_fold(folds=6, candidates=12, seed=0, objectives=1):
    generator = np.random.default_rng(seed)
    names = [f"subject {number}" for number in range(1, folds + 1)]
    states = [TrialState.COMPLETE] * candidates
    if candidates > 5:
        states[5] = TrialState.PRUNED
    parts = {
        name: one_study(name, states, [name], generator, objectives) for name in names
    }
    final = final_runs(range(1, folds + 1), 0.02, generator)
    description = described(
        select="per-fold",
        development=[],
        objectives=["validator", "seconds"][:objectives],
    )
    return joined(parts, description, final=final)


def small(*states, final=None, **options):
    """A study of a few candidates on three folds."""
    generator = np.random.default_rng(1)
    folds = ["subject 1", "subject 2", "subject 3"]
    return joined(
        {"": one_study("", states, folds, generator, **options)},
        described(),
        final=final,
    )


DONE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING


@pytest.fixture(scope="module")
def whole():
    """A finished study with its summary and sections."""
    findings = realistic()
    return findings, *study_sections(findings)


@pytest.fixture(scope="module")
def by_fold():
    findings = per_fold(folds=5, candidates=8, objectives=2)
    return findings, *study_sections(findings)


def blocks(sections, kind):
    return [
        each for section in sections for each in section.blocks if type(each) is kind
    ]


def words(found):
    """Return everything that is said, without figures and tables."""
    return "\n".join(
        each if isinstance(each, str) else each.text
        for each in found
        if isinstance(each, str | Note | Code)
    )


def section(sections, title):
    (found,) = [each for each in sections if each.title == title]
    return found.blocks


# ------------------------------------------------------------------- what mattered


def test_importances_are_the_shares_of_variance_on_the_scale_that_was_drawn():
    """Two quadratics of logarithms: their variances are known.

    Optuna's own shares, over the weight itself, are far from that.
    """
    generator = np.random.default_rng(0)
    findings = joined(
        {"": one_study("", [DONE] * 40, ["subject 1"], generator, noise=0.002)},
        described(),
    )
    found = importances(findings)
    grid = np.linspace(-2, 1, 10_001)
    variances = {
        "adapter.marginal": np.var(0.05 * (grid - 0.5) ** 2),
        "adapter.conditional": np.var(0.025 * (grid + 1) ** 2),
    }
    for name in found.shares.index:
        expected = variances.get(name, 0) / sum(variances.values())
        assert found.mean[name] == pytest.approx(expected, abs=0.06), name
    assert found.shares[""].sum() == pytest.approx(1)
    assert found.explained > 0.7
    raw = optuna.importance.get_param_importances(
        findings.studies[""],
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
    )
    assert raw["adapter.marginal"] < 0.7


def test_nothing_is_said_to_matter_where_scores_are_noise():
    findings = small(*[DONE] * 24)
    generator = np.random.default_rng(3)
    findings.candidates["value"] = generator.normal(size=24)
    found = importances(findings)
    assert found.explained < 0.1
    assert found.shares[""].sum() == pytest.approx(1)
    assert "cannot be told" in what_mattered(found)
    # Then no figure shows shares, and no caption calls an option important.
    shown = section(study_sections(findings)[1], "Which options mattered")
    drawn = [each for each in shown if isinstance(each, Figure)]
    assert "importances" not in [figure.name for figure in drawn]
    assert not any("important" in figure.caption for figure in drawn)


def test_few_candidates_are_too_few_to_say():
    assert "2 complete candidates are too few" in what_mattered(
        importances(small(DONE, DONE))
    )
    for states in [(), (DONE,), (FAILED, FAILED), (DONE, PRUNED)]:
        assert "cannot be computed" in importances(small(*states))
    same = small(DONE, DONE, DONE)
    same.candidates["value"] = 0.5
    assert "same score" in importances(same)


def test_an_option_that_only_some_drew_has_no_share():
    findings = small(*[DONE] * 12)
    findings.candidates.loc[3, "adapter.marginal"] = np.nan
    found = importances(findings)
    assert found.left_out == ("adapter.marginal",)
    assert "adapter.marginal" not in found.shares.index


def test_several_studies_have_a_column_each():
    findings = per_fold(folds=3, candidates=7)
    found = importances(findings)
    assert list(found.shares) == ["subject 1", "subject 2", "subject 3"]
    assert found.shares.sum().to_numpy() == pytest.approx(np.ones(3))
    alone = joined(
        {"": (findings.studies["subject 2"], *_rows_of(findings, "subject 2"))},
        described(),
    )
    expected = importances(alone).shares[""]
    pd.testing.assert_series_equal(
        found.shares["subject 2"].sort_index(), expected.sort_index(), check_names=False
    )


def _rows_of(findings, study):
    tables = (findings.candidates, findings.scores)
    return (
        table[table["study"] == study].assign(study="").to_dict("records")
        for table in tables
    )


def test_a_place_along_a_range():
    log = Option("weight", 0.01, 10, log=True)
    values = pd.Series([0.01, 0.1, 10, 0.0, np.nan])
    expected = [0, 1 / 3, 1, 0, np.nan]
    np.testing.assert_allclose(log.place(values), expected, atol=1e-12)
    assert log.value(1 / 3) == pytest.approx(0.1)
    linear = Option("share", 2, 6, log=False)
    np.testing.assert_allclose(linear.place(pd.Series([2, 3, 6])), [0, 0.25, 1])
    assert linear.value(0.25) == 3
    choice = Option("rule", math.nan, math.nan, False, RULES)
    places = choice.place(pd.Series(["absolute", "pooled", None, "calibrated"]))
    np.testing.assert_allclose(places, [1, 0, np.nan, 0.5])


def test_options_are_those_that_were_drawn():
    options = searched_options(realistic())
    assert {option.name for option in options} == set(SPACE)
    ranges = {(o.low, o.high, o.log) for o in options if o.numeric}
    assert ranges == {(0.01, 10, True)}
    assert searched_options(small(WAITING)) == []


def test_the_mean_nearby_equals_a_loop():
    generator = np.random.default_rng(0)
    places, values = generator.uniform(size=(9, 2)), generator.normal(size=9)
    at = generator.uniform(size=(20, 2)) * 1.6
    for point, found in zip(at, smooth(places, values, at, width=0.1), strict=True):
        weights, total, nearest = 0.0, 0.0, math.inf
        for place, value in zip(places, values, strict=True):
            distance = math.dist(point, place)
            weight = math.exp(-0.5 * (distance / 0.1) ** 2)
            weights, total = weights + weight, total + weight * value
            nearest = min(nearest, distance)
        assert np.isnan(found) if nearest > 0.2 else abs(found - total / weights) < 1e-9
    flat = smooth(places, np.full(9, 3.0), places)
    np.testing.assert_allclose(flat, 3)


# ------------------------------------------------------------------------- candidates


def test_the_best_so_far_equals_a_loop():
    findings = realistic()
    best, expected = math.nan, []
    for _, row in findings.candidates.iterrows():
        if row["state"] == "complete":
            best = row["value"] if math.isnan(best) else max(best, row["value"])
        expected.append(best)
    np.testing.assert_array_equal(best_so_far(findings.candidates), expected)
    assert best_so_far(small(FAILED, DONE, FAILED).candidates).isna().sum() == 1


def test_an_easy_fold_does_not_flatter_a_pruned_candidate():
    """It is as good as the median in the one fold it finished, which is the easiest."""
    table = pd.DataFrame(
        {"candidate": [0, 1, 2, 3], "state": ["complete"] * 3 + ["pruned"]}
    )
    levels = {"easy": 0.9, "hard": 0.5}
    rows = [
        {"candidate": k, "fold": fold, "score": level + gap}
        for k, gap in enumerate([-0.1, 0.0, 0.2])
        for fold, level in levels.items()
    ]
    rows.append({"candidate": 3, "fold": "easy", "score": 0.9})
    found = projected(table, pd.DataFrame(rows))
    np.testing.assert_allclose(found, [0.6, 0.7, 0.9, 0.7])


def test_folds_are_pooled_less_their_median():
    findings = per_fold(folds=3, candidates=7)
    found = comparable(findings)
    for _, theirs in findings.candidates.groupby("study"):
        values = theirs.loc[theirs["state"] == "complete", "value"]
        middle = sorted(values)[len(values) // 2 - 1 : len(values) // 2 + 1]
        assert len(values) == 6
        np.testing.assert_allclose(found[values.index], values - np.mean(middle))
    assert comparable(realistic()).median() > 0.5  # one study: as they are


def test_the_front_holds_what_none_beats():
    findings = realistic(objectives=2)
    found = objectives(findings)
    done = findings.candidates[findings.candidates["state"] == "complete"]
    beaten = {
        a["candidate"]
        for _, a in done.iterrows()
        for _, b in done.iterrows()
        if b["value"] >= a["value"]
        and b["seconds"] <= a["seconds"]
        and (b["value"] > a["value"] or b["seconds"] < a["seconds"])
    }
    assert set(found.loc[~found["front"], "candidate"]) == beaten
    assert 0 < len(beaten) < len(done)


def test_cost_is_added_up():
    findings = small(DONE, DONE, PRUNED, FAILED)
    findings.candidates["seconds"] = [100.0, 140.0, 30.0, 10.0]
    findings.candidates["worker"] = ["a", "b", "a", "b"]
    began = pd.to_datetime(["2026-05-04 09:00:00"] * 3 + ["2026-05-04 09:05:00"])
    findings.candidates["began"] = began
    found = cost(findings)
    assert (found.total, found.typical, found.elapsed) == (280, 120, 310)
    assert found.saved == 120 - 30
    # One that was stopped later than the others end has spared nothing.
    late = small(DONE, DONE, PRUNED, PRUNED)
    late.candidates["seconds"] = [100.0, 140.0, 30.0, 500.0]
    assert cost(late).saved == 120 - 30
    assert found.workers.loc["a"].tolist() == [2, 1, 130]
    assert cost(small(WAITING)) is None
    assert math.isnan(cost(small(FAILED, PRUNED)).saved)


# --------------------------------------------------------- the validator and the truth


def _by_hand(findings, study=""):
    """Return mean validator score and true accuracy by candidate, by loops."""
    values, truths = {}, {}
    done = findings.candidates
    done = done[(done["state"] == "complete") & (done["study"] == study)]
    for number in [*done["candidate"], -1]:
        rows = findings.scores
        rows = rows[(rows["candidate"] == number) & (rows["study"] == study)]
        values[number] = sum(rows["score"]) / len(rows)
        truths[number] = sum(rows["true_accuracy"]) / len(rows)
    return values, truths


def test_agreement_equals_loops_over_candidates():
    findings = realistic()
    found = agreement(findings)
    values, truths = _by_hand(findings)
    table = found.table.set_index("candidate")
    assert set(table.index) == set(values)
    for number, value in values.items():
        assert table.loc[number, "value"] == pytest.approx(value)
        assert table.loc[number, "true_accuracy"] == pytest.approx(truths[number])
    candidates = [number for number in values if number >= 0]
    ranks = [rankdata([each[k] for k in candidates]) for each in (values, truths)]
    assert found.correlation == pytest.approx(np.corrcoef(*ranks)[0, 1])
    chosen = findings.choices[0].candidate
    assert found.regret == pytest.approx(max(truths.values()) - truths[chosen])
    row = found.accuracies.loc[""]
    assert row["chosen"] == pytest.approx(truths[chosen])
    assert row["defaults"] == pytest.approx(truths[0])
    assert row["source only"] == pytest.approx(truths[-1])
    mean = np.mean([truths[number] for number in candidates])
    assert row["mean of all candidates"] == pytest.approx(mean)
    assert source_only_scores(findings)[""] == pytest.approx(values[-1])


def test_what_compared_candidates_is_set_against_the_truth_by_how_they_stand(
    monkeypatch,
):
    findings = realistic()
    numbers = [*agreement(findings).table["candidate"]]
    # One has collapsed, and could not be chosen.
    chosen = findings.choices[0]
    lost = next(each for each in numbers if each not in (chosen.candidate, -1))
    standing = {n: k / 10 for k, n in enumerate(numbers) if n != lost}
    noted = replace(findings, choices=[replace(chosen, standing=standing)])
    by_score = agreement(noted).table.set_index("candidate")
    monkeypatch.setattr(study_numbers, "compared", lambda studies: True)
    found = agreement(noted)
    table = found.table.set_index("candidate")
    assert table["value"].to_dict() == standing
    known = table["true_accuracy"].to_dict()
    assert known == by_score["true_accuracy"].drop(lost).to_dict()
    said = how_far_off(found, noted)
    assert f"had a standing of {standing[chosen.candidate]:.3f}" in said
    # Of a study that did not note it the scores are shown, and called so.
    assert "had a validator score of" in how_far_off(agreement(findings), findings)


def test_agreement_of_several_studies_is_the_mean_of_theirs():
    findings = per_fold(folds=3, candidates=8)
    regrets, correlations = [], []
    for choice in findings.choices:
        values, truths = _by_hand(findings, choice.fold)
        regrets.append(max(truths.values()) - truths[choice.candidate])
        candidates = [number for number in values if number >= 0]
        ranks = [rankdata([each[k] for k in candidates]) for each in (values, truths)]
        correlations.append(np.corrcoef(*ranks)[0, 1])
    found = agreement(findings)
    assert found.regret == pytest.approx(np.mean(regrets))
    assert len({*np.round(correlations, 6)}) > 1
    assert found.correlation == pytest.approx(np.mean(correlations))


def test_not_to_adapt_may_have_been_the_best_in_hindsight():
    findings = realistic()
    alone = findings.scores["candidate"] == -1
    truth = findings.scores["true_accuracy"].mask(alone, 0.99)
    found = agreement(
        replace(findings, scores=findings.scores.assign(true_accuracy=truth))
    )
    _, truths = _by_hand(findings)
    chosen = truths[findings.choices[0].candidate]
    assert found.accuracies.loc["", "best in hindsight"] == pytest.approx(0.99)
    assert found.regret == pytest.approx(0.99 - chosen)


def noted(findings, *collapsed):
    """Return findings that note how each stood, but for those that collapsed."""
    (choice,) = findings.choices
    rows = findings.candidates[~findings.candidates["candidate"].isin(collapsed)]
    standing = dict(zip(rows["candidate"], rows["value"], strict=True)) | {-1: 0.9}
    return replace(findings, choices=[replace(choice, standing=standing)])


def test_what_has_collapsed_was_no_choice_and_is_not_the_best_in_hindsight():
    """Candidate 1 collapsed; its accuracy and its score are above all others."""
    findings = small(*[DONE] * 5, final=final_runs([4], 0, np.random.default_rng(0)))
    scores = findings.scores.copy()
    scores.loc[scores["candidate"] == 1, "true_accuracy"] = 0.99
    table = findings.candidates.copy()
    table.loc[table["candidate"] == 1, "value"] = 1.999
    findings = replace(findings, scores=scores, candidates=table)
    _, truths = _by_hand(findings)
    assert truths[1] == pytest.approx(0.99) and max(truths.values()) == truths[1]
    assert agreement(noted(findings)).best["candidate"].tolist() == [1]
    found = agreement(noted(findings, 1))
    rest = max(truth for number, truth in truths.items() if number != 1)
    assert found.accuracies.loc["", "best in hindsight"] == pytest.approx(rest)
    assert truths[int(found.best["candidate"].iloc[0])] == pytest.approx(rest)
    labels = {"best in hindsight"}
    (axes, *_) = draw_agreement(found).axes
    (mark,) = [each for each in axes.collections if each.get_label() in labels]
    assert mark.get_offsets()[0][1] == pytest.approx(rest)

    won = replace(findings.choices[0], candidate=-1, value=0.9)
    findings = replace(findings, choices=[won])
    rest = table.loc[table["candidate"] != 1, "value"].max()
    assert (
        f"the highest score of a candidate that could be chosen is {rest:.3f}"
        in what_was_chosen(noted(findings, 1))
    )
    assert "chosen is 1.999" in what_was_chosen(noted(findings))
    none = what_was_chosen(noted(findings, *range(5)))
    assert "no candidate could be chosen, as all have collapsed" in none


def test_a_fold_is_told_of_candidates_and_not_of_their_seeds():
    findings = small(DONE, DONE, DONE)
    again = findings.scores.assign(seed=1, score=findings.scores["score"] + 0.02)
    scores = pd.concat([findings.scores, again], ignore_index=True)
    _, table = report._folds(replace(findings, scores=scores))
    _, alone = report._folds(findings)
    assert set(table.frame["count"]) == {3}
    for name in ("median", "min", "max"):
        np.testing.assert_allclose(table.frame[name], alone.frame[name] + 0.01)


@pytest.mark.parametrize(
    ("held", "said"),
    [(0.5, "the same as"), (0.6, "10.0 points above"), (0.4, "10.0 points below")],
)
def test_held_out_people_are_told_beside_the_truth(held, said):
    final = final_runs([4], 0, np.random.default_rng(0))
    findings = small(DONE, final=final)
    scores = findings.scores.assign(true_accuracy=0.5, source_accuracy=held + 1e-12)
    findings = replace(findings, scores=scores)
    text = how_far_off(agreement(findings), findings)
    assert f"its balanced accuracy was {held:.3f}, {said} the truth." in text
    assert "1 complete candidate is too few" in text


def test_a_fold_without_a_complete_candidate_is_counted_among_those_left_out():
    findings = per_fold(folds=4, candidates=12)
    first = next(iter(findings.studies))
    table = findings.candidates.copy()
    table.loc[table["study"] == first, "state"] = "failed"
    assert importances(replace(findings, candidates=table)).skipped == 1


@pytest.mark.parametrize("candidates", [4, 5])
def test_of_five_candidates_a_correlation_is_given(candidates):
    final = final_runs([4], 0, np.random.default_rng(0))
    found = agreement(small(*[DONE] * candidates, final=final))
    assert math.isnan(found.correlation) == (candidates < 5)


def test_accuracies_that_differ_by_rounding_are_of_one_rank():
    final = final_runs([4], 0, np.random.default_rng(0))
    findings = small(*[DONE] * 6, final=final)
    places = findings.scores["candidate"]
    truth = 0.5 + 0.1 * (places > 2) + 1e-15 * (places % 3)
    found = agreement(
        replace(findings, scores=findings.scores.assign(true_accuracy=truth))
    )
    values, _ = _by_hand(findings)
    ranks = rankdata([values[k] for k in range(6)]), [2, 2, 2, 5, 5, 5]
    assert found.correlation == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_seeds_weigh_less_than_folds():
    findings = small(DONE, final=final_runs([4], 0, np.random.default_rng(0)))
    first = findings.scores.iloc[[0]].assign(seed=1, true_accuracy=0.0)
    scores = pd.concat([findings.scores, first], ignore_index=True)
    truth = findings.scores.loc[findings.scores["candidate"] == 0, "true_accuracy"]
    expected = (truth.iloc[0] / 2 + truth.iloc[1] + truth.iloc[2]) / 3
    found = agreement(replace(findings, scores=scores)).table.set_index("candidate")
    assert found.loc[0, "true_accuracy"] == pytest.approx(expected)


def test_a_target_label_reaches_nothing_before_the_end(whole):
    """Without final runs it is nowhere; with them, in its own places alone."""
    findings, summary, sections = whole
    assert agreement(replace(findings, final=None)) is None
    unfinished = small(DONE, DONE)
    assert unfinished.scores["true_accuracy"].notna().all()
    assert "After the fact" not in words(study_sections(unfinished)[0])

    generator = np.random.default_rng(9)
    noise = generator.uniform(size=len(findings.scores))
    other = replace(findings, scores=findings.scores.assign(true_accuracy=noise))
    other_summary, other_sections = study_sections(other)
    after = "The validator and the truth, after the fact"
    for mine, theirs in zip(sections, other_sections, strict=True):
        same = words(mine.blocks) == words(theirs.blocks)
        assert same == (mine.title != after)
    different = [type(a) for a, b in zip(summary, other_summary, strict=True) if a != b]
    assert different == [Note]


# ------------------------------------------------------------------------ plain words


def gained(subjects, gain, spread=0.03, seed=0):
    generator = np.random.default_rng(seed)
    results = final_runs(range(subjects), gain, generator, spread)
    return results, what_it_gained(replace(small(DONE), final=results))[0]


def test_the_table_has_tuned_less_each_other_method():
    results, _ = gained(24, 0.05)
    table = report._comparisons(results)
    assert next(iter(table.index)) == "tuned - defaults"
    wide = results.per_subject()
    for method in ("defaults", "source only", "majority class"):
        row = table.loc[f"tuned - {method}"]
        gap = (wide["tuned"] - wide[method]).mean()
        assert row["difference"] == pytest.approx(100 * gap)
        assert row["low"] < row["difference"] < row["high"]


def test_a_gain_is_told_with_interval_and_test():
    results, text = gained(24, 0.05)
    wide = results.per_subject()
    found = compare(wide["tuned"].to_numpy(), wide["defaults"].to_numpy())
    assert f"{100 * found.difference:+.1f} points" in text
    assert f"{100 * found.low:+.1f} to {100 * found.high:+.1f}" in text
    assert "p < 0.001" in text and "24 subjects" in text
    assert f"{(wide['tuned'] > wide['defaults']).sum()} subjects gained" in text
    assert text.endswith("The tuned configuration was better.")


def test_a_loss_and_no_difference_are_told_as_plainly():
    assert gained(24, -0.05)[1].endswith("The tuned configuration was worse.")
    _, text = gained(24, 0.0, spread=0.1)
    assert text.endswith("That is no difference that these subjects can show.")


def test_a_mean_that_the_test_speaks_against_is_no_hint():
    """Eleven of twelve lose a little by tuning, and one gains much."""
    gap = [-0.01 - 0.001 * k for k in range(11)] + [0.4]
    assert sum(gap) > 0 and wilcoxon(gap, alternative="less").pvalue < 0.025
    results, _ = gained(12, 0.0)
    table = results.table.copy()
    base = 0.5 + table["subject"].map(dict(enumerate(gap))).to_numpy()
    table["balanced_accuracy"] = np.where(table["method"] == "tuned", base, 0.5)
    results = replace(results, table=table)
    text = what_it_gained(replace(small(DONE), final=results))[0]
    assert text.endswith(
        "Interval and test disagree: the mean says better, the interval holds zero, "
        "the test says worse. That is no hint either way."
    )


def test_few_subjects_allow_no_conclusion():
    assert "3 subjects are too few for an interval or a test" in gained(3, 0.2)[1]
    assert "cannot go below p = 0.062" in gained(5, 0.2)[1]
    assert "1 subject is too few for an interval or a test" in gained(1, 0.2)[1]
    results, _ = gained(8, 0.0)
    table = results.table
    same = table[table["method"] == "defaults"]
    tuned = same.assign(method="tuned")
    results = replace(results, table=pd.concat([tuned, same]))
    (text,) = what_it_gained(replace(small(DONE), final=results))
    assert "the same balanced accuracy in every subject" in text


def test_a_control_that_did_better_is_named():
    results, _ = gained(8, 0.0)
    assert "Yet" not in " ".join(what_it_gained(replace(small(DONE), final=results)))
    table = results.table.copy()
    table.loc[table["method"] == "logistic regression", "balanced_accuracy"] = 0.95
    results = replace(results, table=table)
    *_, text = what_it_gained(replace(small(DONE), final=results))
    assert text.endswith("has logistic regression (0.950).")


def test_what_won_is_told():
    findings = small(DONE, DONE, DONE)
    assert "defaults themselves won" in what_was_chosen(findings)
    source = Choice(None, -1, 0.95, {}, COMMAND)
    findings = replace(findings, choices=[source])
    text = what_was_chosen(findings)
    assert "does not adapt" in text
    assert f"chosen is {findings.candidates['value'].max():.3f}" in text
    assert "Nothing has been chosen" in what_was_chosen(small(FAILED))
    findings = per_fold(folds=4, candidates=4)
    numbers = [0, 0, -1, 2]
    choices = [
        replace(choice, candidate=number)
        for choice, number in zip(findings.choices, numbers, strict=True)
    ]
    text = what_was_chosen(replace(findings, choices=choices))
    assert "In 1 of 4 folds a tuned candidate won, in 2 the defaults, and in 1" in text


def test_somebody_who_chose_and_was_tested_is_named():
    findings = realistic()
    assert "None of them took part" in who_was_tested(findings, findings.final)
    findings.description["study"]["development"] = ["1", "13"]
    assert "Of these, 13 took part" in who_was_tested(findings, findings.final)


def test_the_summary_answers_every_question(whole):
    findings, summary, _ = whole
    text = words(summary)
    chosen = findings.choices[0].candidate
    for said in (
        "30 candidates: 21 complete, 8 pruned, 1 failed",
        f"Candidate {chosen} was chosen",
        "of the defaults",
        "Against source only",
        "most goes to adapter.marginal",
        "After the fact",
        "selection gap",
        COMMAND,
    ):
        assert said in text, said
    assert "not finished" not in text


# --------------------------------------------------------------------------- the page


def test_the_chosen_options_stand_beside_defaults_and_ranges(whole):
    findings, _, sections = whole
    (table,) = blocks([sections[0]], Table)
    options = findings.choices[0].options
    assert list(table.frame.index) == list(SPACE)
    for name, value in options.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        assert table.frame.loc[name, "chosen"] == shown
    assert table.frame.loc[NAMES[0]].tolist()[1:] == ["1", "0.01 to 10, logarithmic"]
    assert Code(COMMAND) in sections[0].blocks


def test_every_stopped_candidate_has_its_reason(whole):
    findings, _, sections = whole
    (table,) = blocks([sections[6]], Table)
    stopped = findings.candidates[findings.candidates["state"] != "complete"]
    shown = table.frame[["candidate", "state", "reason"]].to_numpy().tolist()
    assert shown[: len(stopped)] == (
        stopped[["candidate", "state", "reason"]].to_numpy().tolist()
    )
    assert table.frame["folds finished"].tolist() == [3, 3, 3, 3, 0, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("sqlite", "sqlite:///study.db"),
        ("journal", "study.journal"),
        ("postgresql://me:***@host/lab", "postgresql://me:***@host/lab"),
    ],
)
def test_the_storage_can_be_opened_elsewhere(storage, shown):
    findings = small(DONE)
    findings.description["study"]["storage"] = storage
    how = section(study_sections(findings)[1], "How the numbers were obtained")
    assert Code(f"optuna-dashboard {shlex.quote(shown)}") in how
    assert ("password" in words(how)) == ("***" in shown)


def test_history_draws_every_candidate_at_its_score():
    findings = realistic()
    with matplotlib.rc_context(STYLE):
        axes = draw_history(findings).axes[0]
    table = findings.candidates.set_index("candidate")
    drawn = {c.get_label(): c.get_offsets().data for c in axes.collections}
    done = table[table["state"] == "complete"]
    np.testing.assert_allclose(drawn["complete"], done["value"].reset_index())
    numbers = drawn["pruned"][:, 0]
    assert numbers.tolist() == table.index[table["state"] == "pruned"].tolist()
    assert drawn["failed"][:, 0].tolist() == [15]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert set(lines["defaults"]) == {table.loc[0, "value"]}
    assert lines["source only"][0] == pytest.approx(source_only_scores(findings)[""])


def test_far_off_is_more_than_three_interquartile_ranges_off():
    """Of 0 to 8 and one more: quartiles about 2.25 and 6.75, a range of 4.5."""
    usual = [float(number) for number in range(9)]
    for beyond, far in (
        (15.0, False),
        (20.0, False),
        (21.0, True),
        (-12.0, False),
        (-13.0, True),
    ):
        values = [*usual, beyond]
        first, third = np.quantile(values, [0.25, 0.75])
        reach = 3 * (third - first)
        assert (beyond > third + reach or beyond < first - reach) == far
        assert outlying(values).tolist() == [False] * 9 + [far]
    assert not outlying([*usual[:8], 1e9]).any()  # of fewer than ten


def test_one_candidate_that_went_astray_sets_no_scale():
    findings = realistic()
    table = findings.candidates
    done = table["state"] == "complete"
    usual = table.loc[done, "value"].astype(float)
    low, high = usual.min(), usual.max()
    number = table.loc[done, "candidate"].iloc[3]
    mine = table["candidate"] == number
    table.loc[mine, "value"] = astray = low - 50
    findings.scores.loc[findings.scores["candidate"] == number, "score"] -= 50
    options = searched_options(findings)
    with matplotlib.rc_context(STYLE):
        history = draw_history(findings).axes[0]
        slices = draw_slices(findings, options[:2]).axes[0]
        parallel = draw_parallel(findings, options[:2]).axes[0]
        folds = draw_folds(findings).axes[0]
    (line,) = slices.lines
    assert np.nanmin(line.get_ydata()) >= low  # nor does it bend a mean
    for axes in (history, slices):
        bottom, top = axes.get_ylim()
        assert bottom < low and top > high and top - bottom < 2 * (high - low)
        (said,) = (each.get_text() for each in axes.texts if "shown" in each.get_text())
        assert said == f"1 below, not shown: {astray:.3g}"
    ends = [
        line.get_ydata()[-1] for line in parallel.lines if len(line.get_ydata()) == 3
    ]
    assert min(ends) == 0 and max(ends) == 1 and len(set(np.round(ends, 3))) > 15
    image = next(c for c in folds.collections if c.get_array() is not None)
    assert image.get_clim()[1] < 1


def test_the_map_of_folds_shows_gaps_to_the_median_of_complete_candidates():
    findings = realistic()
    with matplotlib.rc_context(STYLE):
        figure = draw_folds(findings)
    axes = figure.axes[0]
    image = next(c for c in axes.collections if c.get_array() is not None)
    shown = image.get_array().reshape(30, 12)
    table, scores = findings.candidates, findings.scores
    done = set(table.loc[table["state"] == "complete", "candidate"])
    order = table.sort_values(
        "value", ascending=False, na_position="last", kind="stable"
    )
    wide = scores.pivot(index="candidate", columns="fold", values="score")
    folds = list(dict.fromkeys(scores["fold"]))
    started = [number for number in order["candidate"] if number in wide.index]
    assert len(started) == 29  # one failed before it had finished a fold
    for row, number in enumerate([*started, -1]):
        for column, fold in enumerate(folds):
            known = [wide.loc[k, fold] for k in done]
            expected = wide.loc[number, fold] - np.median(known)
            found = shown[row, column]
            if np.isnan(expected):
                assert found is np.ma.masked
            else:
                assert found == pytest.approx(expected)


def check_legible(figure):
    """Assert that no text is cut off by the page or too small to read."""
    with matplotlib.rc_context(STYLE):
        drawn = figure.draw()
        drawn.draw_without_rendering()
    for text in drawn.findobj(Text):
        assert not text.get_text() or text.get_fontsize() >= 7, (figure.name, text)
    reach, (width, height) = drawn.get_tightbbox(), drawn.get_size_inches()
    inside = min(reach.x0, reach.y0, width - reach.x1, height - reach.y1)
    assert inside > -0.02, (figure.name, reach)


NAMES_OF_FIGURES = [
    "final-runs",
    "history",
    "importances",
    "slices",
    "contour",
    "parallel-coordinates",
    "folds",
    "agreement",
    "cost",
]


def test_every_figure_of_a_whole_study_is_legible(whole):
    _, _, sections = whole
    drawn = blocks(sections, Figure)
    assert [figure.name for figure in drawn] == NAMES_OF_FIGURES
    for figure in drawn:
        check_legible(figure)


def test_every_figure_of_a_study_per_fold_is_legible(by_fold):
    _, _, sections = by_fold
    drawn = blocks(sections, Figure)
    expected = [name.replace("history", "pareto-front") for name in NAMES_OF_FIGURES]
    expected.remove("importances")  # eight candidates are too few to tell
    assert [figure.name for figure in drawn] == expected
    for figure in drawn:
        check_legible(figure)


def test_each_fold_s_choice_is_a_row(by_fold):
    findings, summary, sections = by_fold
    (table,) = blocks([sections[0]], Table)
    assert table.frame.index.tolist() == list(findings.studies)
    numbers = [choice.candidate for choice in findings.choices]
    assert table.frame["candidate"].tolist() == numbers
    assert blocks([sections[0]], Code) == [Code("\n".join([COMMAND] * 5))]
    assert Code(COMMAND) not in summary


@pytest.mark.parametrize(
    ("states", "missing"),
    [
        ((), {"cost", "folds", "history", "importances", "slices"}),
        ((WAITING,), {"cost", "folds", "history", "importances", "slices"}),
        ((FAILED, FAILED), {"folds", "history", "importances", "slices"}),
        ((RUNNING, PRUNED), {"history", "importances", "slices"}),
        ((DONE,), {"importances", "slices", "contour"}),
        ((DONE, DONE, RUNNING), {"contour", "importances"}),
    ],
    ids=["none", "waiting", "failed", "running", "one", "two"],
)
def test_where_there_is_too_little_a_sentence_says_so(states, missing):
    summary, sections = study_sections(small(*states))
    assert summary and all(each.blocks for each in sections)
    drawn = blocks(sections, Figure)
    shown = {figure.name for figure in drawn}
    everything = {"cost", "folds", "history", "importances", "slices", "contour"}
    assert everything - shown == missing | (
        {"contour"} if "slices" in missing else set()
    )
    for figure in drawn:
        check_legible(figure)
    text = words(summary)
    open_ = any(state in (RUNNING, WAITING) for state in states)
    assert ("may still change" in text) == open_
    for each in sections:
        if not blocks([each], Figure) and each.title == "Cost":
            assert "timed" in words(each.blocks)


def test_the_page_is_written_and_always_the_same(tmp_path, monkeypatch):
    final = final_runs([4, 5, 6], 0.01, np.random.default_rng(2))
    findings = replace(
        small(FAILED, FAILED, final=final),
        name="a <study> & more",
        choices=[Choice(None, -1, 0.9, {}, COMMAND)],
    )
    monkeypatch.setattr(report, "load_findings", lambda folder, storage: findings)
    first = write_study_report(tmp_path)
    second = write_study_report(tmp_path, tmp_path / "other.html")
    assert first[0] == tmp_path / "report.html"
    assert second[0] == tmp_path / "other.html"
    for one, other in zip(first, second, strict=True):
        # But for the links to the files beside it.
        links = (b'href="report/', b'href="other/')
        assert one.read_bytes().replace(*links) == other.read_bytes()
    text = first[0].read_text(encoding="utf-8")
    assert "Study a &lt;study&gt; &amp; more" in text and COMMAND in text
    table = pd.read_csv(tmp_path / "report" / "every-candidate.csv")
    np.testing.assert_allclose(table["score"], findings.candidates["value"])
