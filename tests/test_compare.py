"""Comparing runs: the numbers, what is refused, what is concluded, the command."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import typer
from typer.testing import CliRunner

import domainemo as de
from domainemo.cli.commands import app
from domainemo.errors import ConfigurationError
from domainemo.reports.comparison_figures import figures
from domainemo.reports.style import render
from domainemo.review.conclusions import conclusions
from domainemo.runs.metrics import METRICS
from domainemo.runs.results import Results
from domainemo.statistics.paired import compare as compare_paired

SUBJECTS = [str(n) for n in range(1, 13)]
EVEN = np.linspace(0.5, 0.72, len(SUBJECTS))


def results(dataset="made up", subjects=SUBJECTS, seeds=(0,), **accuracies):
    """A run as its tables have it; the first method is its own."""
    rows, predicted = [], []
    for method, values in accuracies.items():
        name = method.replace("_", " ")
        for who, value in zip(subjects, values, strict=True):
            place = {"fold": f"subject {who}", "subject": who}
            for seed in seeds:
                shift = 0.01 * (seed - np.mean(seeds))  # seeds average out
                rows.append(
                    {"method": name, **place, "seed": seed, "level": "window"}
                    | {"balanced_accuracy": value + shift, "log_loss": 1 - value}
                    | {"dataset": dataset, "protocol": "cross-subject"}
                    | {"excluded": "", "access": "inductive", "version": "1"}
                    | {"target_seen": "target not seen", "backbone": "r2gfanet"}
                )
            for trial in range(2):
                predicted.append(
                    {"method": name, **place, "seed": 0, "session": "1"}
                    | {"trial": trial, "start": 0.0, "label": trial}
                    | {"predicted": 0, "p_calm": 0.5, "p_tense": 0.5}
                )
    description = {"seeds": list(seeds), "backbone": "r2gfanet", "options": {}}
    own = next(iter(accuracies)).replace("_", " ")
    return Results(pd.DataFrame(rows), pd.DataFrame(predicted), description, own)


def edited(run, **columns):
    return replace(run, table=run.table.assign(**columns))


GAINS = np.array([3, 5, -1, 4, 6, 2, 7, 1, 3, 5, 2, 4]) / 100
ONE = results(uf_ama=EVEN + GAINS, source_only=EVEN, third=EVEN - GAINS)


def test_a_comparison_prints_as_a_line_and_in_a_notebook_as_its_table():
    found = de.compare(ONE, edited(results(uf_ama=EVEN, third=EVEN), dataset="other"))
    assert repr(found) == (
        "Compared(balanced_accuracy, less uf ama; made up, 12 subjects: uf ama, source "
        "only, third; other, 12 subjects: uf ama, third)"
    )
    page = found._repr_html_()
    for number in found.table()["difference"].dropna():
        assert f"<td>{number:.3f}</td>" in page


def test_numbers_print_as_numbers():
    """Whatever library they come from: of one data set, of two, and of one run."""
    eight = results(
        "another", SUBJECTS[:8], uf_ama=EVEN[:8] + GAINS[:8], third=EVEN[:8]
    )
    found = de.compare(ONE, eight)
    for each in (*found.datasets, found.combined, found.combined_p, ONE.comparison()):
        assert "np." not in repr(each)


def test_one_run_compares_all_its_methods_with_its_own():
    found = de.compare(ONE)
    assert found.reference == "uf ama"
    (here,) = found.datasets
    assert set(here.differences) == {"source only", "third"}
    # Subjects are drawn from in the order in which a run's own comparison does.
    order = np.argsort(SUBJECTS)
    expected = compare_paired(EVEN[order], (EVEN + GAINS)[order])
    assert here.differences["source only"] == expected
    least = min(each.p for each in here.differences.values())
    assert min(here.corrected.values()) == pytest.approx(2 * least)
    assert here.ranks.p == pytest.approx(
        scipy.stats.friedmanchisquare(EVEN + GAINS, EVEN, EVEN - GAINS).pvalue
    )
    table = found.table().set_index("method")
    for name, each in here.differences.items():
        assert table.loc[name, "wilcoxon_p"] == each.p
        assert table.loc[name, "holm_p"] == here.corrected[name] > each.p
    wide = de.compare(ONE, rope=0.5).datasets[0].differences["source only"]
    assert wide.chances.equal > 0.99 > here.differences["source only"].chances.equal


def test_seeds_are_averaged_within_subjects():
    many = results(seeds=(0, 1, 2), a=EVEN + GAINS, b=EVEN)
    once = results(a=EVEN + GAINS, b=EVEN)
    one, other = (de.compare(run).datasets[0] for run in (many, once))
    assert len(one.values) == len(SUBJECTS)
    pd.testing.assert_frame_equal(one.values, other.values)


def test_of_several_runs_each_ones_own_method_is_compared():
    other = results(marginal=EVEN, source_only=EVEN)
    found = de.compare(ONE, other)
    assert list(found.datasets[0].values) == ["uf ama", "marginal"]
    assert found.datasets[0].ranks is None
    two = de.compare(ONE, other, methods=["source only"])
    assert list(two.datasets[0].values) == ["run 1: source only", "run 2: source only"]
    assert two.datasets[0].differences["run 2: source only"].p == 1
    turned = de.compare(ONE, other, reference="marginal")
    gap = turned.datasets[0].differences["uf ama"].difference
    assert gap == pytest.approx(GAINS.mean())


def test_less_is_better_of_a_loss():
    found = de.compare(ONE, metric="log_loss", rope=0.001).datasets[0]
    source = found.differences["source only"]
    assert source.difference == pytest.approx(GAINS.mean())  # a larger loss
    assert source.chances.worse > 0.9
    assert found.ranks.average.idxmin() == "uf ama"
    said = " ".join(conclusions(de.compare(ONE, metric="log_loss")))
    assert "source only is worse than uf ama" in said


REFUSED = {
    "protocols differ": edited(ONE, protocol="cross-session"),
    "recordings left out differ": edited(ONE, excluded="3"),
    "folds differ": edited(ONE, fold="all"),
    "ORACLE": edited(ONE, target_seen="ORACLE: the epoch was chosen"),
    "whole trials, with --level trial": edited(ONE, level="sequence"),
    "other recordings, or on other labels": replace(
        ONE, predictions=ONE.predictions.assign(label=0)
    ),
    "labels nobody knows": replace(
        ONE, table=ONE.table.drop(columns="balanced_accuracy")
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_runs_that_answer_different_questions_are_refused(why):
    with pytest.raises(ConfigurationError, match=why):
        de.compare(ONE, REFUSED[why])


def test_fewer_trials_are_other_recordings():
    fewer = replace(ONE, predictions=ONE.predictions[ONE.predictions["trial"] == 0])
    with pytest.raises(ConfigurationError, match="trial 1 of subject 1"):
        de.compare(ONE, fewer)


def test_what_can_be_compared_but_is_not_alike_is_said():
    options = {"training.epochs": 3, "adapter.weight": 1}
    other = replace(
        edited(results(marginal=EVEN), access="transductive", version="2"),
        description={**ONE.description, "adapter": "marginal", "options": options},
    )
    notes = " ".join(de.compare(ONE, other).datasets[0].notes)
    assert "differs from run 1 in adapter, training.epochs and the version" in notes
    assert "run 1 inductive; run 2 transductive" in notes
    oracles = [edited(run, target_seen="ORACLE") for run in (ONE, results(b=EVEN))]
    assert "ORACLE" in " ".join(de.compare(*oracles).datasets[0].notes)


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ({"metric": "acuracy"}, "Did you mean 'accuracy'"),
        ({"rope": -1.0}, "expected 0 or more"),
        ({"reference": "sourceonly"}, "Did you mean 'source only'"),
        ({"methods": ["nobody"]}, "found no method nobody"),
        ({"methods": ["third"]}, "nothing to compare"),
        ({"metric": "auroc"}, "without auroc"),
        ({"level": "trial"}, "no scores per trial"),
    ],
)
def test_what_there_is_not_is_refused(choice, why):
    with pytest.raises(ConfigurationError, match=why):
        de.compare(ONE, **choice)


def test_no_run_and_a_lonely_method_are_refused():
    with pytest.raises(ConfigurationError, match="no run"):
        de.compare()
    with pytest.raises(ConfigurationError, match="nothing to compare"):
        de.compare(results(alone=EVEN))


def test_a_subject_without_a_score_is_left_out():
    values = EVEN.copy()
    values[3] = np.nan
    found = de.compare(results(a=EVEN + GAINS, b=values)).datasets[0]
    assert found.dropped == ["4"]
    assert len(found.values) == len(SUBJECTS) - 1


def test_data_sets_are_compared_each_by_itself_and_then_together():
    few, eight = EVEN[:8], SUBJECTS[:8]
    other = results("another", eight, uf_ama=few + GAINS[:8], source_only=few)
    found = de.compare(results(uf_ama=EVEN + GAINS, source_only=EVEN), other)
    assert [each.name for each in found.datasets] == ["made up", "another"]
    z = [
        -scipy.stats.norm.isf(each.differences["source only"].p / 2)
        for each in found.datasets
    ]
    weights = np.sqrt([12, 8])
    expected = (weights * z).sum() / np.sqrt(20)
    assert found.combined["source only"].z == pytest.approx(expected)
    assert "Over 2 data sets, source only is worse" in conclusions(found)[-1]
    assert not any(each.notes for each in found.datasets)
    # Of a loss, more is worse: what is combined has the sign of what is better.
    first = results(uf_ama=EVEN + GAINS, source_only=EVEN)
    loss = de.compare(first, other, metric="log_loss")
    assert loss.combined["source only"].z == pytest.approx(expected)


@pytest.mark.parametrize("subjects", [4, 5])
def test_five_subjects_of_each_data_set_are_enough_to_combine_them(subjects):
    runs = [
        results(
            name, SUBJECTS[:subjects], mine=EVEN[:subjects], other=EVEN[::-1][:subjects]
        )
        for name in ("one", "another")
    ]
    assert bool(de.compare(*runs).combined) == (subjects == 5)


def test_what_is_combined_is_corrected_for_the_number_of_methods():
    """Of two methods, one shows alone and, corrected, no longer."""
    gains = np.array([3, -5, 1, 4, -2, 6, 2, -1, 5, 3, -4, 2]) / 100
    noise = np.array([9, -8, 7, -9, 8, -7, 9, -9, 8, -8, 7, -6]) / 100
    runs = [
        results(name, mine=EVEN, near=EVEN + gains, other=EVEN + noise)
        for name in ("one", "two", "three", "four")
    ]
    found = de.compare(*runs)
    alone = {name: each.p for name, each in found.combined.items()}
    assert alone["near"] < 0.05 < 2 * alone["near"] < alone["other"]
    expected = {"near": 2 * alone["near"], "other": alone["other"]}
    assert found.combined_p == pytest.approx(expected)
    text = " ".join(conclusions(found))
    assert "Over 4 data sets, near cannot be told from mine" in text


def test_people_are_counted_once_whatever_they_were_adapted_from():
    """A data set is that of the people who were tested."""
    first = edited(results(a=EVEN + GAINS, source_only=EVEN), target="elsewhere")
    second = edited(results("another", a=EVEN, source_only=EVEN), target="elsewhere")
    third = edited(first, target="anywhere")
    found = de.compare(first, second)
    assert [each.name for each in found.datasets] == ["elsewhere"]
    assert not found.combined and found.datasets[0].values.shape == (12, 2)
    apart = de.compare(first, third)
    assert [each.name for each in apart.datasets] == ["elsewhere", "anywhere"]


def test_what_a_part_is_made_of_is_no_difference_of_its_own_beside_another():
    """Of two joined adapters neither the options nor those of each of them are."""
    made = {
        "mcc+mmd": {"adapter.mcc.weight": 1.0, "adapter.mmd.schedule.length": 2},
        "coral": {"adapter.weight": 0.1},
    }
    one, other = (
        replace(ONE, description={**ONE.description, "adapter": name, "options": own})
        for name, own in made.items()
    )
    notes = [each.notes for each in de.compare(one, other).datasets]
    assert notes == [["run 2 differs from run 1 in adapter."]]
    # Of the same ones they are, whatever else differs.
    options = {**made["mcc+mmd"], "adapter.mcc.weight": 2.0}
    changed = {**one.description, "options": options, "backbone": "dgcnn"}
    (same,) = de.compare(one, replace(one, description=changed)).datasets
    assert same.notes == [
        "run 2 differs from run 1 in adapter.mcc.weight and backbone."
    ]


def test_choices_that_differ_between_data_sets_are_said():
    """A p over both would else be of two questions, without a word."""
    options = {"training.epochs": 3, "data.window": 4}
    other = replace(
        results("another", uf_ama=EVEN, source_only=EVEN),
        description={**ONE.description, "calibration": 1, "options": options},
    )
    first = results(uf_ama=EVEN + GAINS, source_only=EVEN)
    alone, beside = (each.notes for each in de.compare(first, other).datasets)
    assert not alone
    told = "of another data set, in calibration and training.epochs."
    assert beside == [f"run 2 differs from run 1, {told}"]


# ------------------------------------------------------------------------- sentences


def said(first, second):
    return " ".join(conclusions(de.compare(results(mine=first, other=second))))


def test_conclusions_say_what_is_shown_and_no_more():
    assert "other is worse than mine on these subjects (-3.4 points" in said(
        EVEN + GAINS, EVEN
    )
    assert "other is better than mine" in said(EVEN, EVEN + GAINS)
    noise = np.array([9, -8, 7, -9, 8, -7, 9, -9, 8, -8, 7, -6]) / 100
    assert "other cannot be told from mine" in said(EVEN, EVEN + noise)
    assert "practically equal, within 0.02" in said(EVEN, EVEN + noise / 100)
    assert (
        "to see a difference of 0.02 it would take about"
        in said(EVEN, EVEN + noise).lower()
    )


def test_where_interval_and_test_disagree_it_is_a_hint():
    """The interval is above zero; after Holm's correction the test shows nothing."""
    gains = np.array([8, 7, -3, 8, 9, -2, 1, 3, 4, 1, -3, 8]) / 100
    noise = np.array([9, -8, 7, -9, 8, -7, 9, -9, 8, -8, 7, -6]) / 100
    found = de.compare(results(mine=EVEN, near=EVEN + gains, other=EVEN + noise))
    (here,) = found.datasets
    assert here.differences["near"].low > 0
    assert here.corrected["near"] > 0.05
    (text,) = conclusions(found)
    assert (
        "That near is better than mine is a hint, not a finding: the mean says better, "
        "the interval says better, the test shows nothing" in text
    )


@pytest.mark.parametrize("metric", ["balanced_accuracy", "log_loss"])
def test_no_hint_is_given_to_the_side_that_the_test_speaks_against(metric):
    """Eleven of twelve lose a little and one gains much; a loss has it turned round."""
    gap = np.array([-0.03 - 0.001 * k for k in range(11)] + [0.55])
    assert gap.mean() > 0
    assert scipy.stats.wilcoxon(gap, alternative="less").pvalue < 0.025
    found = de.compare(results(mine=EVEN, other=EVEN + gap), metric=metric)
    (text,) = conclusions(found)
    assert (
        "Whether other is better or worse than mine is left open: the mean says "
        "better, the interval holds zero, the test says worse" in text
    )


def test_six_subjects_can_show_a_difference():
    six = results(subjects=SUBJECTS[:6], mine=EVEN[:6] + 0.3, other=EVEN[:6])
    (text,) = conclusions(de.compare(six))
    assert "no difference can be shown" not in text and "other is worse" in text


@pytest.mark.parametrize(("others", "shown"), [(1, True), (2, False), (3, False)])
def test_it_is_said_where_the_correction_leaves_nothing_to_be_shown(others, shown):
    """All six gain by the first; no p is smaller than 1 / 32, which Holm multiplies."""
    p = scipy.stats.wilcoxon(GAINS[:6] * np.sign(GAINS[:6])).pvalue
    worse = {f"other {k}": EVEN[:6] - 0.1 * k for k in range(1, others + 1)}
    six = results(subjects=SUBJECTS[:6], mine=EVEN[:6], **worse)
    (text,) = conclusions(de.compare(six))
    least = f"cannot go below p = {others * p:.2g}: it can show no difference here"
    assert ("is worse than mine on these subjects" in text) == shown
    assert (least in text) == (not shown) == (others * p >= 0.05)


def test_five_subjects_conclude_nothing():
    run = results(subjects=SUBJECTS[:5], mine=EVEN[:5] + 0.3, other=EVEN[:5])
    (text,) = conclusions(de.compare(run))
    assert "With 5 subjects no difference can be shown" in text
    assert "0.0625" in text


def test_nothing_is_found_where_nothing_differs_more_often_than_promised():
    """Of 60 at 0.05, 3 are expected; the bound is passed once in a thousand."""
    rng, claims = np.random.default_rng(0), 0
    for _ in range(60):
        ability = rng.beta(6, 4, size=12)
        pair = rng.binomial(24, ability, size=(2, 12)) / 24
        text = said(*pair)
        claims += "on these subjects (" in text and "is better" in text
        claims += "on these subjects (" in text and "is worse" in text
    assert claims <= scipy.stats.binom.ppf(0.999, 60, 0.05)


# --------------------------------------------------------------- figures, the command


def test_figures_show_strange_names():
    strange = results(**{"a<b>$x$": EVEN + GAINS, "source_only": EVEN, "c": EVEN})
    for draw in figures(de.compare(strange)).values():
        (drawn,) = render(draw, ".svg")
        assert b"a&lt;b&gt;$x$" in drawn
        assert render(draw, ".svg") == (drawn,)


def test_a_comparison_draws_its_paired_figure():
    found = de.compare(ONE)
    assert render(found.plot, ".svg") == render(figures(found)["paired"], ".svg")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "none"
    data = de.Simulated(subjects=5, sessions=1, trials=3, windows=(2, 2)).load()
    de.run(
        data,
        backbone="concatenation-mlp",
        adapter="none",
        training=de.Training(epochs=1),
        controls=["majority-class"],
        output=folder,
    )
    return folder


def command(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_the_command_prints_and_writes_the_same_numbers(run, tmp_path):
    output = tmp_path / "out"
    done = command(run, "--output", output)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(output / "comparison.csv")
    assert list(table["method"]) == ["source only", "majority class"]
    for mean in table["mean"]:
        assert f"{mean:.3f}" in done.stdout
    there = {path.name for path in output.iterdir()}
    tables = {"comparison.csv", "subjects.csv", "conclusions.txt"}
    assert there == tables | {"paired.svg", "paired.pdf"}
    record = json.loads(command(run, "--json").stdout)
    assert record["methods"][1]["difference"] == pytest.approx(table["difference"][1])
    assert record["conclusions"] == conclusions(de.compare(run))
    again = command(run, "--output", output)
    assert isinstance(again.exception, ConfigurationError)
    (tmp_path / "file").touch()
    again = command(run, "--output", tmp_path / "file")
    assert isinstance(again.exception, ConfigurationError)
    assert "this is a file" in str(again.exception)
    assert "Name another one with --output." in str(again.exception)


def test_the_help_names_what_may_be_compared(run):
    levels = [*dict.fromkeys(Results.load(run).table["level"])]
    assert len(levels) > 1
    for level in levels:
        assert command(run, "--level", level, "--json").exit_code == 0
    shown = typer.main.get_group(app).commands["compare"].params
    told = {each.name: each.help for each in shown}
    said = re.findall(r"[a-z0-9_]+", told["metric"].partition(":")[2])
    assert set(said) == {*METRICS, "or"}
    assert all(level in told["level"] for level in levels), levels
    page = (Path(__file__).parents[1] / "docs" / "comparing.md").read_text("utf-8")
    for text in (de.compare.__doc__, page):
        assert all(re.search(rf"`{name}`|\"{name}\"", text) for name in METRICS)


def test_a_folder_that_is_no_run_is_refused(run, tmp_path):
    found = command(run, tmp_path)
    assert isinstance(found.exception, ConfigurationError)
    with pytest.raises(ConfigurationError, match="folder twice"):
        de.compare(run, run)


def test_a_runs_own_comparison_is_the_same():
    own = ONE.comparison()
    theirs = de.compare(ONE).datasets[0].differences["source only"]
    assert theirs.difference == pytest.approx(-own.difference)
    assert (theirs.p, theirs.needed) == (own.p, own.needed)
    assert theirs.low == pytest.approx(-own.high, abs=1e-3)
