"""The report of people without labels: its numbers, its words, and what it lacks."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from html import unescape
from itertools import product

import numpy as np
import pandas as pd
import pytest
from browser import DESKTOP, PHONE, open_page

import domainemo as de
from domainemo.cli import main
from domainemo.cli.configuration import stored_experiment
from domainemo.errors import ConfigurationError, DataError
from domainemo.reports import newcomers_figures as figures
from domainemo.reports.newcomers_words import UNKNOWN, who_has_one_class, who_is_far
from domainemo.reports.run import write_run_report
from domainemo.review.interpretation import find_folds
from domainemo.review.reading import match_recordings
from domainemo.review.tables import agreement, along_recording
from domainemo.runs.distance import distance_sentences, farther_than
from domainemo.runs.model import find_trained, load_trained
from domainemo.runs.results import Results

CHOICES = {
    "backbone": "uf-ama",
    "adapter": "uf-ama",
    "options": {"training.epochs": 2, "backbone.width": 8},
    "device": "cpu",
}
SMALL = {"backbone": "concatenation-mlp", "options": {"training.epochs": 1}}
EVIL = """<script>alert("1")</script>&amp;'"""
METHODS = ["uf-ama", "source only", "logistic regression", "majority class"]
METHODS.append("clip duration only")
DRAWN = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>'


@pytest.fixture(scope="module")
def parts():
    """Three people with labels, two without, whose names no page may believe."""
    data = de.load("simulated", subjects=5, sessions=2, trials=3, windows=[3, 4])
    classes = (*data.classes[:-1], f"very {EVIL}")
    new = data.inputs.windows["subject"].to_numpy() > 3
    source, target = (data.take(np.flatnonzero(each)) for each in (~new, new))
    names = target.inputs.windows["subject"].map({4: f"p10 {EVIL}", 5: "p9"})
    windows = target.inputs.windows.assign(subject=names)
    return replace(source, classes=classes), replace(target.inputs, windows=windows)


def adapted(parts, output, **choices):
    return de.adapt(*parts, output=output, **{**CHOICES, **choices})


@pytest.fixture(scope="module")
def folder(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("newcomers") / "run"
    adapted(parts, folder)
    return folder


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_run_report(folder, path)
    return path


@pytest.fixture
def fast(monkeypatch):
    """Draw every picture, and write none."""

    def drawn(draw, *endings):
        draw()
        return tuple(DRAWN for _ in endings)

    monkeypatch.setattr("domainemo.reports.page.render", drawn)


def table(page, name):
    return pd.read_csv(page.with_suffix("") / f"{name}.csv")


def words(page):
    """Return what a reader sees of a page, and no program."""
    text = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", page.read_text())
    return " ".join(unescape(text).split())


def headings(text):
    """Return the page's headings, and how each is followed up to the next one."""
    found = re.split(r"<h2[^>]*>(?:<a[^>]*>)?([^<]*)(?:</a>)?</h2>", text)
    return dict(zip(found[1::2], found[2::2], strict=True))


# --------------------------------------------------------------------------- numbers


def test_shares_and_confidence_are_those_of_the_predictions(folder, page):
    predictions = pd.read_csv(folder / "predictions.csv")
    classes = [name[2:] for name in predictions if name.startswith("p_")]
    shown = table(page, "person-by-person")
    assert list(shown["subject"].unique()) == ["p9", f"p10 {EVIL}"]
    assert list(shown["method"]) == 2 * METHODS
    for row in shown.to_dict("records"):
        own = predictions[
            (predictions["method"] == row["method"])
            & (predictions["subject"] == row["subject"])
        ]
        for name in classes:
            share = (own["predicted"] == name).mean()
            assert row[f"share {name}"] == pytest.approx(share)
        sure = own[[f"p_{name}" for name in classes]].max(axis=1).mean()
        assert row["mean confidence"] == pytest.approx(sure, rel=1e-5)


def test_trials_on_the_page_are_those_of_the_folder(folder, page):
    known = pd.read_csv(folder / "trials.csv").query("method == 'uf-ama'")
    shown = table(page, "along-the-recording")
    both = shown.merge(known, on=["subject", "session", "trial"])
    assert len(both) == len(shown) == len(known) == 2 * 2 * 3
    assert (both["predicted_x"] == both["predicted_y"]).all()
    assert (both["samples_x"] == both["samples_y"]).all()
    for name in (each[2:] for each in known if each.startswith("p_")):
        np.testing.assert_allclose(
            both[f"probability of {name}"], both[f"p_{name}"], rtol=1e-5
        )


def test_agreement_is_counted_sample_by_sample(folder, page):
    predictions = pd.read_csv(folder / "predictions.csv")
    place = ["subject", "session", "trial", "start"]
    said = {
        method: rows.set_index(place)["predicted"].to_dict()
        for method, rows in predictions.groupby("method")
    }
    shown = table(page, "agreement-of-methods").set_index("method")
    assert list(shown) == list(shown.index) == METHODS
    for one, other in product(METHODS, METHODS):
        same = [said[one][key] == said[other][key] for key in said[one]]
        assert shown.loc[one, other] == pytest.approx(np.mean(same))
    changed = 1 - shown.loc["uf-ama", "source only"]
    each = Results.load(folder).people().xs("uf-ama", level="method")["changed"]
    samples = predictions.query("method == 'uf-ama'").groupby("subject").size()
    expected = (each * samples[each.index]).sum() / samples.sum()
    assert changed == pytest.approx(expected)


def test_methods_are_compared_on_the_seeds_of_both():
    rows = [
        (method, "f", seed, 1, 1, 1, start, predicted)
        for method, seed, said in (
            ("a", 0, "xy"),
            ("a", 1, "xx"),
            ("b", 0, "xx"),
            ("b", 1, "xx"),
            ("c", 0, "yy"),
        )
        for start, predicted in enumerate(said)
    ]
    names = ["method", "fold", "seed", "subject", "session", "trial", "start"]
    found = agreement(pd.DataFrame(rows, columns=[*names, "predicted"]))
    assert found.loc["a", "b"] == found.loc["b", "a"] == 3 / 4
    assert found.loc["a", "c"] == 1 / 2 and found.loc["b", "c"] == 0
    assert (np.diag(found) == 1).all()


def test_distances_on_the_page_are_ranked_by_a_slow_loop(folder, page):
    known = pd.read_csv(folder / "distances.csv")
    shown = table(page, "distance-to-the-sources")
    assert len(shown) == 2 * 2
    for row in shown.to_dict("records"):
        here = known[known["modality"] == row["modality"]]
        for column in ("recorded", "normalised"):
            heading = {"recorded": "as recorded"}.get(column, column)
            own = here.loc[here["subject"] == row["subject"], column].item()
            assert row[heading] == pytest.approx(own)
            beaten = sum(own > each for each in here.loc[~here["newcomer"], column])
            assert row[f"farther {heading} than"] == f"{beaten} of 3"


def test_validators_on_the_page_choose_the_highest(folder, page):
    shown = table(page, "what-validators-say").set_index("validator")
    per_fold = table(page, "what-validators-say-2").set_index("fold")
    results = pd.read_csv(folder / "results.csv").query("level == 'window'")
    for name, row in shown.iterrows():
        scores = results.pivot(index="fold", columns="method", values=f"score_{name}")
        scores = scores[["uf-ama", "source only"]]
        for method, mean in scores.mean().items():
            assert row[method] == pytest.approx(mean)
        assert row["would choose"] == scores.mean().idxmax()
        for fold, chosen in per_fold[name].items():
            assert chosen == scores.loc[fold].idxmax()
    assert set(per_fold.index) == {"subject p9", f"subject p10 {EVIL}"}
    assert "nobody can tell here" in words(page)


def test_the_page_holds_its_numbers_for_programs(folder, page):
    text = page.read_text()
    start = text.index('type="application/json"')
    held = json.loads(text[text.index(">", start) + 1 : text.index("</script>", start)])
    results = Results.load(folder)
    assert held["how"] == results.how() and held["configuration"]["adapter"] == "uf-ama"
    assert held["people"]["changed"] == results.people()["changed"].tolist()
    assert held["distances"]["recorded"] == results.distances["recorded"].tolist()


# ----------------------------------------------------------------------------- words


def test_the_page_begins_with_what_nobody_knows(page):
    text = words(page)
    assert text.index(UNKNOWN) < text.index("2 people, ")
    assert "No label of the target exists" in text


def test_no_figure_needs_a_label(page):
    """Neither in words nor in any table, but for the box that says so."""
    scores = r"accura|kappa|macro|f1\b|ECE|calibrat|right pseudo|chance is|confusion"
    seen = words(page).replace(UNKNOWN, "")
    assert not re.findall(scores, seen, re.IGNORECASE)
    for path in page.with_suffix("").glob("*.csv"):
        assert not re.findall(scores, path.read_text(), re.IGNORECASE)


def test_names_are_never_taken_for_html(page):
    text = page.read_text()
    assert "<script>alert" not in text and EVIL in words(page)
    assert text.count("<script") == 1  # the data


@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (DESKTOP, False)])
def test_the_page_is_readable(page, width, dark):
    seen = open_page(page, width, dark)
    assert seen.faults == []
    assert seen.shown["svg"] == 5


def distances(*rows):
    columns = ["subject", "newcomer", "modality", "recorded", "normalised"]
    return pd.DataFrame(rows, columns=columns)


SOURCE = [
    *((name, False, "eeg", 1.0 + name, 0.1) for name in range(3)),
    *((name, False, "eye", 1.0, np.nan) for name in range(3)),
]


def test_distances_are_told_in_sentences():
    found = distances(
        *SOURCE,
        ("p10", True, "eeg", 2.5, 0.2),
        ("p9", True, "eeg", 9.0, 0.05),
        ("p10", True, "eye", 0.5, 0.7),
        ("p9", True, "eye", np.nan, np.nan),
    )
    assert distance_sentences(found) == [
        "Subject p9 lies farther from the source, in eeg, than 3 of 3 source people as "
        "recorded and 0 of 3 normalised. Subject p9 cannot be compared with the source "
        "people in eye.",
        "Subject p10 lies farther from the source, in eeg, than 2 of 3 source people "
        "as recorded and 3 of 3 normalised; in eye, than 0 of 3 source people as "
        "recorded.",
    ]
    assert who_is_far(found).endswith(
        "as recorded 1 of 2 newcomers (subject p9); normalised 1 of 2 newcomers "
        "(subject p10)."
    )


def test_a_single_source_person_is_no_scale():
    alone = ("a", False, "eeg", np.nan, np.nan), ("b", True, "eeg", 1.0, 1.0)
    ranks = farther_than(distances(*alone))
    assert ranks[["recorded_exceeds", "recorded_of"]].to_numpy().tolist() == [[0, 0]]
    assert distance_sentences(distances(*alone)) == [
        "Subject b cannot be compared with the source people in eeg."
    ]


def test_who_is_given_a_single_class_is_named(folder):
    results = Results.load(folder)
    table = results.table.copy()
    shares = [name for name in table if name.startswith("share_")]
    table[shares] = 0.5
    assert who_has_one_class(replace(results, table=table)) == ""
    table.loc[table["subject"] == "p9", shares] = [0, 1, 0]
    text = who_has_one_class(replace(results, table=table))
    assert "every window of 1 of 2 newcomers: subject p9 (neutral)." in text
    table["samples"] = 1
    assert who_has_one_class(replace(results, table=table)) == ""


# ----------------------------------------------------------------- along the recording


def made_up(people, sessions=2, trials=2, windows=3, seeds=(0,)):
    """Return results in which every person is sure of other classes."""
    generator = np.random.default_rng(0)
    place = product(people, range(sessions), range(trials), range(windows))
    names = ["subject", "session", "trial", "start"]
    base = pd.DataFrame(list(place), columns=names)
    parts = []
    for method, seed in product(("adapter", "source only"), seeds):
        p = generator.dirichlet([1, 1, 1], size=len(base))
        rows = base.assign(method=method, seed=seed, fold="newcomers")
        rows[["p_calm", "p_glad", "p_sad"]] = p
        rows["predicted"] = np.array(["calm", "glad", "sad"])[p.argmax(1)]
        parts.append(rows)
    predictions = pd.concat(parts, ignore_index=True)
    keys = ["subject", "method"]
    shares = pd.crosstab([predictions[k] for k in keys], predictions["predicted"])
    shares = shares.div(shares.sum(axis=1), axis=0).add_prefix("share_").reset_index()
    scores = shares.assign(level="window", fold="newcomers", confidence=0.5, changed=0)
    description = {"adapter": "adapter", "validator": "last", "seeds": list(seeds)}
    return de.Results(scores, predictions, description, "adapter")


def test_windows_stand_in_the_order_of_the_recording():
    results = made_up(["p10", "p9"], sessions=11, seeds=(0, 1))
    mixed = results.predictions.sample(frac=1, random_state=0)
    mixed["session"] = "day " + mixed["session"].astype(str)
    found = along_recording(replace(results, predictions=mixed), "adapter")
    place = ["subject", "session", "trial", "start"]
    expected = list(
        product(["p9", "p10"], [f"day {n}" for n in range(11)], range(2), range(3))
    )
    assert list(found[place].itertuples(index=False, name=None)) == expected
    own = mixed[mixed["method"] == "adapter"]
    for row in found.iloc[::17].to_dict("records"):
        here = own[np.logical_and.reduce([own[k] == row[k] for k in place])]
        assert len(here) == 2 and row["samples"] == 1
        means = here[["p_calm", "p_glad", "p_sad"]].mean()
        assert [row[name] for name in means.index] == pytest.approx(means.tolist())
        assert row["predicted"] == means.idxmax()[2:]
    trials = along_recording(
        replace(results, predictions=mixed), "adapter", trials=True
    )
    assert (trials["samples"] == 3).all() and len(trials) == 2 * 11 * 2


@pytest.mark.parametrize(("people", "panels"), [(1, 1), (3, 3), (40, 12)])
def test_one_person_and_many_can_be_drawn(people, panels):
    names = list(range(1, people + 1))
    results = made_up(names)
    table = along_recording(results, "adapter").assign(changed=True)
    classes = ["calm", "glad", "sad"]
    drawn = figures.draw_recording(table, names[: figures.PEOPLE], classes, "window")
    shown = [axes for axes in drawn.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [
        f"subject {name}" for name in names[:panels]
    ]
    shares = figures.draw_shares(results, ["adapter", "source only"])
    people_of = results.people()
    for axes, method in zip(shares.axes, ("adapter", "source only"), strict=True):
        bars = np.array([bar.get_width() for bar in axes.patches]).reshape(3, -1)
        wanted = people_of.xs(method, level="method").filter(like="share_")
        np.testing.assert_allclose(bars, wanted.to_numpy().T)


def test_someone_very_far_does_not_hide_the_others():
    far = distances(*SOURCE, ("b", True, "eeg", 400.0, 0.1), ("b", True, "eye", 1, 1))
    left, right = figures.draw_distances(far).axes
    assert left.get_xscale() == "log" and right.get_xscale() == "linear"


# --------------------------------------------------------------------- other runs


@pytest.mark.parametrize(
    ("chosen", "there", "lacks"),
    [
        (
            {"adapter": "none", "seeds": [0, 1]},
            "This is source only: nothing was adapted.",
            "no screen of the adapter",
        ),
        (
            {"baselines": False, "controls": [], "adapter": "marginal"},
            "cannot tell what adapting changed",
            "agreement of methods",
        ),
        (
            {
                "adapter": "marginal",
                "validator": "source-and-information",
                "sampling": "trials",
                "together": True,
            },
            "the highest score of its own fold",
            "embeddings",
        ),
    ],
    ids=["source only", "alone", "trials together"],
)
def test_a_report_of_other_runs(parts, tmp_path, fast, chosen, there, lacks):
    chosen = {**chosen}
    if chosen.pop("together", False):
        options = {**SMALL["options"], "protocol.together": True}
        chosen |= {"options": options, "backbone": "r2gfanet"}
    adapted(parts, tmp_path / "run", **{**SMALL, **chosen})
    written = write_run_report(tmp_path / "run")
    assert written[0] == tmp_path / "run" / "report.html"
    assert there in words(written[0])
    found = headings(written[0].read_text())
    assert lacks in " ".join(found["What this report lacks"].split()).lower()
    assert ("Agreement of methods" in found) == chosen.get("baselines", True)


# ------------------------------------------------------------------- damaged folders


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("results", lambda it: it.drop(columns="confidence"), "no 'confidence'"),
        ("results", lambda it: it.drop(columns="share_neutral"), "the columns share_"),
        ("predictions", lambda it: it.assign(label=0), "labels, and distances"),
        ("predictions", lambda it: it[:0], "no rows"),
        ("distances", lambda it: it.drop(columns="recorded"), "no 'recorded'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*cannot be checked")
def test_tables_hold_what_is_read_from_them(folder, tmp_path, name, change, found):
    """Nobody recorded these."""
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "files.json").unlink()
    path = tmp_path / "run" / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(DataError, match=rf"{name}\.parquet.*found {found}"):
        Results.load(tmp_path / "run")


def test_a_table_that_is_gone_is_told(folder, tmp_path):
    for name in ("distances", "predictions"):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        (copy / f"{name}.parquet").unlink()
        with pytest.raises(DataError, match=rf"{name}\.parquet"):
            Results.load(copy)


# --------------------------------------------------------------------------- commands


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs the command here: exit code, all that it said."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((said.out + said.err).split())

    return run


def test_the_commands(call, folder, parts, tmp_path, fast):
    path = tmp_path / "a.html"
    code, text = call("report", folder, f"--output={path}")
    assert code == 0 and "a.html is the report" in text and "Note" not in text
    assert UNKNOWN in words(path)
    code, text = call("report", folder, f"--output={path}", f"--data-root={tmp_path}")
    assert code == 2 and "reads no recordings again" in text
    code, text = call("interpret", folder)
    assert code == 2 and "tests nobody in the labelled recordings" in text


def test_networks_of_such_a_run_predict_what_it_predicted(folder, parts):
    experiment = stored_experiment(folder)
    chosen = find_trained(folder, fold="subject p9", adapter="uf-ama")
    theirs = parts[1].windows["subject"].to_numpy() == "p9"
    inputs = parts[1].take(np.flatnonzero(theirs))
    made = load_trained(chosen, experiment).predict(inputs)
    known = pd.read_parquet(folder / "predictions.parquet")
    known = known[(known["method"] == "uf-ama") & (known["subject"] == "p9")]
    place = ["session", "trial", "start"]
    columns = [name for name in known if name.startswith("p_")]
    np.testing.assert_allclose(
        made.sort_values(place)[columns], known.sort_values(place)[columns], atol=1e-6
    )
    with pytest.raises(ConfigurationError, match="tests nobody"):
        find_folds(folder, experiment)
    with pytest.raises(ConfigurationError, match="newcomers"):
        match_recordings(folder, parts[0], experiment)
