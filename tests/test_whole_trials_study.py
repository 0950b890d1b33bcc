"""What learning from whole trials is worth: the sums by hand, and the page."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scripts import script

import domainemo as de
from domainemo.adapters.self_training.whole_trials import WholeTrials
from domainemo.choices import BenchmarkChoices, RunChoices, choices_of
from domainemo.runs.metrics import metrics

CLASSES = 3
NETWORKS = ("first", "second")
SETS = ("one", "two")


@pytest.fixture(scope="module")
def study():
    """The scripts, which import what stands beside them."""
    names = ("whole_trials", "whole_trials_one", "whole_trials_page", "planted")
    return SimpleNamespace(**{name: script(name) for name in names})


def windows(people):
    rows = [
        (subject, 1, trial, float(start))
        for subject, trial, start in product(range(people), range(4), range(3))
    ]
    return pd.DataFrame(rows, columns=["subject", "session", "trial", "start"])


def labels_of(table):
    return (table["subject"] + table["trial"]).to_numpy() % CLASSES


def write(folder, table, methods, seed):
    """Write predictions as a run does, in another order."""
    generator = np.random.default_rng(seed)
    parts = []
    for method, seeds in methods.items():
        for number in range(seeds):
            drawn = generator.dirichlet(np.ones(CLASSES), len(table))
            own = table.assign(label=labels_of(table), method=method, seed=number)
            for place in range(CLASSES):
                own[f"p_{place}"] = drawn[:, place]
            parts.append(own.sample(frac=1, random_state=number))
    folder.mkdir(parents=True)
    found = pd.concat(parts)
    found.to_parquet(folder / "predictions.parquet", index=False)
    return found


@pytest.fixture(scope="module")
def output(study, tmp_path_factory):
    """A benchmark of two data sets, two networks, and every candidate."""
    folder, kept = tmp_path_factory.mktemp("output"), {}
    for number, (dataset, network) in enumerate(product(SETS, NETWORKS)):
        table = windows(6 + SETS.index(dataset))
        place = folder / "cells" / dataset / "cross-subject" / network
        plain = {"source only": 2}
        if network == NETWORKS[0]:  # alike for all networks
            plain["logistic regression"] = 1
        kept[dataset, network, "none"] = write(place / "none", table, plain, number)
        for at, name in enumerate((*study.whole_trials.SETTINGS, "uf-ama")):
            method = {"a method": 2}
            found = write(place / name, table, method, 100 * number + at + 1)
            kept[dataset, network, name] = found
    return folder, kept


def by_hand(rows, *, trials=False):
    """One person's balanced accuracy by the library's own metrics, seed by seed."""
    columns = [f"p_{place}" for place in range(CLASSES)]
    found = []
    for _, own in rows.groupby("seed"):
        if trials:
            own = own.groupby(["session", "trial"])[[*columns, "label"]].mean()
        labels = own["label"].to_numpy(int)
        found.append(metrics(labels, own[columns].to_numpy())["balanced_accuracy"])
    return np.mean(found)


def test_scores_are_those_of_the_library_person_by_person(study, output):
    folder, kept = output
    rows = study.whole_trials.people(folder)
    index = rows.set_index(["dataset", "backbone", "method", "person"]).sort_index()
    for (dataset, network, name), table in kept.items():
        for method, own in table.groupby("method"):
            called = method if name == "none" else name
            for person, theirs in own.groupby("subject"):
                found = index.loc[(dataset, network, called, person)]
                assert found["score"] == pytest.approx(by_hand(theirs))
                whole = by_hand(theirs, trials=True)
                assert found["trial score"] == pytest.approx(whole)
    base = index.xs("source only", level="method")
    for (dataset, network, method, person), row in index.iterrows():
        expected = row["score"] - base.loc[(dataset, network, person), "score"]
        assert row["gain"] == pytest.approx(expected), method


def test_a_setting_is_chosen_without_the_data_set_it_is_reported_on(study, output):
    """Whatever happens on one data set, what is chosen for it stays the same."""
    rows = study.whole_trials.people(output[0])
    sure = study.whole_trials.sureness(output[0])
    _, chosen = study.whole_trials.left_out(rows, sure)
    generator = np.random.default_rng(0)
    for dataset in SETS:
        own = rows["dataset"] == dataset
        changed, fitted = rows.copy(), sure.copy()
        for column in ("score", "gain", "error"):
            changed.loc[own, column] = generator.normal(size=own.sum())
        fitted.loc[fitted["dataset"] == dataset, "temperature"] = 7.0
        _, again = study.whole_trials.left_out(changed, fitted)
        before, after = (
            each.set_index("dataset").loc[dataset, "chosen"] for each in (chosen, again)
        )
        assert before == after


def test_the_setting_of_the_highest_gain_that_harms_few_is_chosen(study):
    choose, names = study.whole_trials.choose, study.whole_trials.CANDIDATES[0.5]
    kinds = ("eegmat-windows", "a", "b", "c")
    settings = ("mean-itself", *names)
    zeros = {"gain": 0.0, "harmed": 0.0, "error, more": 0.0}
    table = pd.DataFrame(
        [
            {"dataset": dataset, "method": name, **zeros}
            for dataset, name in product(kinds, settings)
        ]
    )
    sure = pd.DataFrame({"dataset": kinds, "temperature": (0.9, 0.4, 0.6, 0.5)})

    def put(dataset, name, gain, harmed, error=0.0):
        place = (table["dataset"] == dataset) & (table["method"] == name)
        table.loc[place, ["gain", "harmed", "error, more"]] = gain, harmed, error

    put("a", names[1], 0.05, 0.01)
    put("b", names[2], 0.09, 0.30)  # too many are harmed
    put("c", names[3], 0.09, 0.00, 0.02)  # and who is right is not told
    put("eegmat-windows", names[4], 0.03, 0.0)
    put("c", "mean-itself", 0.2, 0.0)  # of another temperature
    assert choose(table, sure, "b") == names[1]
    assert choose(table, sure, "a") == names[4]
    # Of the same people, neither speaks for the other.
    assert choose(table, sure, "eegmat-sequences") == names[1]
    # Where means are as sure as right on the others, they are taught as they are.
    sure.loc[1:, "temperature"] = 1.1
    assert choose(table, sure, "b") == "mean-itself"


def test_how_sure_trials_are_against_a_loop(study, output):
    folder, kept = output
    found = study.whole_trials.sureness(folder).set_index(["dataset", "backbone"])
    columns = [f"p_{place}" for place in range(CLASSES)]
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 600))
    for dataset, network in product(SETS, NETWORKS):
        rows = kept[dataset, network, "none"]
        rows = rows[rows["method"] == "source only"]
        right, sure, sharpened, means, truth = [], [], [], [], []
        for _, own in rows.groupby(["seed", "subject", "session", "trial"]):
            mean = own[columns].mean().to_numpy()
            means.append(mean)
            truth.append(int(own["label"].iloc[0]))
            right.append(mean.argmax() == truth[-1])
            sure.append(mean.max())
            sharpened.append(mean.max() ** 2 / (mean**2).sum())
        row = found.loc[(dataset, network)]
        told = (np.mean(right), np.mean(sure), np.mean(sharpened))
        assert row[["right", "sure", "sharpened"]].tolist() == pytest.approx(told)
        weights = 1 / np.bincount(truth)[truth]  # every class counts alike
        losses = []
        for temperature in grid:
            powers = np.array(means) ** (1 / temperature)
            powers /= powers.sum(1, keepdims=True)
            losses.append(-(weights * np.log(powers[range(len(truth)), truth])).sum())
        best = grid[np.argmin(losses)]
        assert row["temperature"] == pytest.approx(best, rel=0.02)


def test_the_ceiling_is_everybodys_best(study, output):
    rows = study.whole_trials.people(output[0])
    held, _ = study.whole_trials.left_out(rows, study.whole_trials.sureness(output[0]))
    best = held[held["method"] == study.whole_trials.ORACLE]
    names = ["source only", "logistic regression", *study.whole_trials.SETTINGS]
    of_all = rows[rows["method"].isin(names)]
    keys = ["dataset", "backbone", "person"]
    expected = of_all.groupby(keys)["score"].max()
    assert best.set_index(keys)["score"].sort_index().equals(expected.sort_index())


def test_one_person_at_a_time_is_told_by_the_setting_that_is_named(study, output):
    """Whatever any other setting gains there."""
    rows = study.whole_trials.people(output[0])
    several = study.whole_trials.SETTINGS
    names = {"one": several[1], "two": several[4]}
    faulty = rows[rows["dataset"] == "one"].assign(dataset="one-shift")
    every = pd.concat([rows, faulty], ignore_index=True)
    tables = study.whole_trials_one.tables_of(every, names)
    planted = tables["one-planted"]
    assert set(planted["dataset"]) == {"one-shift"}
    assert "one-shift" not in {
        *tables["one"]["dataset"],
        *tables["one-tests"]["dataset"],
    }
    told = tables["one"].set_index(["dataset", "method"])
    tests = tables["one-tests"].query("of == 'score'")
    tests = tests.set_index(["method", "against", "dataset"])["gain"]
    scores = rows.set_index(["dataset", "method", "backbone"])["score"].sort_index()
    for dataset, name in names.items():
        assert told.loc[(dataset, "chosen")].equals(told.loc[(dataset, name)])
        own = scores.loc[dataset, name].mean()
        plain = scores.loc[dataset, "source only"]
        less = tests.loc[("chosen", "source only", dataset)]
        assert less == pytest.approx(own - plain.mean())
        linear = scores.loc[dataset, "logistic regression"]
        best = [max(plain[each].mean(), linear[each].mean()) for each in NETWORKS]
        less = tests.loc[("chosen", "better of both", dataset)]
        assert less == pytest.approx(own - np.mean(best))


# ---------------------------------------------------------------------------- faults


def people(counts):
    """People with windows of each class, in trials of one class."""
    rows = [
        (person, label, start)
        for person, each in enumerate(counts)
        for label, number in enumerate(each)
        for start in range(number)
    ]
    subject, label, start = (np.array(each) for each in zip(*rows, strict=True))
    signals = np.random.default_rng(5).normal(3.0, 2.0, (len(rows), 4, 1))
    return de.from_arrays(
        {"eye": signals, "skin": signals[:, :2] * 5},
        label,
        subject=subject,
        trial=label,
        start=start.astype(float),
    )


def test_shares_are_three_to_one_and_the_class_is_another_for_everybody(study):
    data = people([(9, 12), (10, 7), (20, 30)])
    found = study.planted.shifted(data)
    subjects = found.inputs.windows["subject"].to_numpy()
    counts = [
        np.bincount(found.labels[subjects == each], minlength=2).tolist()
        for each in range(3)
    ]
    assert counts == [[9, 3], [2, 7], [20, 6]]
    rows = found.inputs.windows
    for _, own in rows.groupby(["subject", "trial"]):
        assert own["start"].tolist() == list(range(len(own)))  # the first ones


def test_every_third_has_a_sensor_of_noise_alone(study):
    data = people([(30, 30)] * 7)
    found = study.planted.with_a_bad_sensor(data)
    subjects = data.inputs.windows["subject"].to_numpy()
    assert study.planted.spoiled(subjects) == [0, 3, 6]
    changed = {
        (person, name)
        for person, name in product(range(7), data.inputs.signals)
        if not np.array_equal(
            data.inputs.signals[name][subjects == person],
            found.inputs.signals[name][subjects == person],
        )
    }
    assert changed == {(0, "eye"), (3, "skin"), (6, "eye")}
    before, after = (
        each.inputs.signals["eye"][subjects == 0] for each in (data, found)
    )
    assert np.abs(before.mean(0) - after.mean(0)).max() < 1.5
    apart = np.corrcoef(before[:, 0, 0], after[:, 0, 0])[0, 1]
    assert abs(apart) < 0.4
    assert found.labels is data.labels


# -------------------------------------------------------------------------- the page

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "whole-trials.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
REAL = ("eegmat-windows", "eegmat-sequences", "ssvep-exo", "esports")


@pytest.fixture(scope="module")
def kept(study):
    return study.whole_trials_page.kept()


def test_the_page_is_its_tables(study, kept):
    for mark, table in study.whole_trials_page.rendered(kept).items():
        assert f"<!-- {mark} -->\n{table}\n<!-- end of {mark} -->" in PAGE
    for name in study.whole_trials_page.drawn(kept):
        assert f"]({name})" in PAGE and (ROOT / "docs" / name).is_file()


def points(value):
    return f"{100 * value:.1f}"


def harmed(rows):
    """Return how many people with networks are harmed, from shares by data set."""
    networks = dict(zip(REAL, (108, 108, 36, 24), strict=True))
    return round(sum(rows.loc[name, "harmed"] * n for name, n in networks.items()))


def test_the_page_claims_what_its_tables_say(kept):
    words = " ".join(PAGE.split())
    rows = kept["settings"].set_index(["method", "dataset"])

    def gains(method, column="gain"):
        return [rows.loc[(method, each), column] for each in REAL]

    first, second, third, fourth = map(points, gains("chosen"))
    assert (
        f"it gains {first} points on windows of eegmat, {second} on sequences, {third} "
        f"on ssvep-exo and {fourth} on esports: {points(np.mean(gains('chosen')))} on "
        f"average over these four"
    ) in words
    tests = kept["tests"].query("of == 'score'")
    tests = tests.set_index(["method", "against", "dataset"])
    together = tests.loc[("chosen", "source only", "together")]
    assert f"{points(together['gain'])} over the three groups" in words
    assert together["p"] < 0.001
    better = tests.loc[("chosen", "better of both", "together")]
    assert f"it gains {points(better['gain'])} points together" in words
    assert better["p"] < 0.001
    usual = ", ".join(map(points, gains("uf-ama")[:3]))
    assert f"`uf-ama` gains {usual} and {points(gains('uf-ama')[3])}" in words
    assert not any(gains("chosen", "harmed")) and not any(gains("weight-4", "harmed"))
    harmed = [f"{100 * each:.1f}" for each in gains("uf-ama", "harmed")[:2]]
    assert f"harms {harmed[0]} and {harmed[1]} % on the two views" in words
    more = np.mean(gains("weight-8")) - np.mean(gains("weight-4"))
    less = np.mean(gains("weight-4")) - np.mean(gains("weight-2"))
    assert f"8 gains {points(more)} points more on average" in words
    assert f"2 gains {points(less)} less" in words
    assert (
        f"It gains {points(np.mean(gains('class-alone')))} points on average" in words
    )
    further = np.mean(gains("aligned")) - np.mean(gains("weight-4"))
    assert f"gains {points(further)} points more than whole trials alone" in words
    ceiling = np.mean(gains("oracle"))
    assert f"would gain {points(ceiling)} points on average" in words
    for method, told in (("weight-4", "weight 4 loses {}"), ("weight-8", "loses {}:")):
        lost = -rows.loc[(method, "esports"), "trial gain"]
        assert told.format(points(lost)) in words


def test_the_page_says_what_it_gains_one_person_at_a_time(kept):
    words = " ".join(PAGE.split())
    rows = kept["one"].set_index(["method", "dataset"])
    tests = kept["one-tests"].set_index(["of", "method", "against", "dataset"])
    gains = [rows.loc[("chosen", name), "gain"] for name in REAL]
    first, second, third, fourth = map(points, gains)
    together = tests.loc[("score", "chosen", "source only", "together")]
    assert (
        f"gains more**: {first} points on windows of eegmat, {second} on sequences, "
        f"{third} on ssvep-exo and {fourth} on esports, {points(np.mean(gains))} on "
        f"average over these four, {points(together['gain'])} over the three groups"
    ) in words
    better = tests.loc[("score", "chosen", "better of both", "together")]
    assert (
        f"Over the better of source only and logistic regression it gains "
        f"{points(better['gain'])} points together"
    ) in words
    assert together["p"] < 0.001 and better["p"] < 0.001
    lost = {name: harmed(rows.loc[name]) for name in ("chosen", "weight-4")}
    assert f"{lost['chosen']} of 276 people with networks lose" in words
    assert f"by weight 4, {lost['weight-4']} of 276" in words
    own = [rows.loc[("weight-4", name), "gain"] for name in REAL]
    assert (
        f"Weight 4 gains {', '.join(map(points, own[:3]))} and {points(own[3])}"
    ) in words
    whole = points(-rows.loc[("weight-4", "esports"), "trial gain"])
    assert f"scored by whole trials it loses {whole} points on esports" in words
    planted = kept["one-planted"].query("method == 'weight-4'").set_index("dataset")
    names = ("eegmat", "ssvep-exo", "esports")
    best, better, worse = (planted.loc[f"{name}-shift"] for name in names)
    assert best["p"] < 0.001 and better["p"] < 0.001 and worse["p"] > 0.05
    assert f"where {100 * best['harmed']:.0f} % are harmed" in words
    assert not better["harmed"] and not worse["harmed"]
    assert f"weight 4 gains {points(best['gain'])} points on eegmat" in words
    assert (
        f", {points(better['gain'])} on ssvep-exo (p < .001) and "
        f"{points(worse['gain'])} on esports (p = {worse['p']:.3f})".replace(
            "= 0", "= "
        )
    ) in words
    # Nothing was chosen by these figures.
    for name, setting in kept["chosen"][["dataset", "chosen"]].to_numpy():
        if name in REAL:
            told = (rows.loc[(method, name)] for method in ("chosen", setting))
            assert next(told).equals(next(told))


def test_the_page_says_who_is_as_sure_as_right(kept):
    words = " ".join(PAGE.split())
    tests = kept["tests"].query("of == 'error'").set_index(["method", "dataset"])
    for method in ("chosen", "weight-4"):
        for name in REAL[:2]:
            assert tests.loc[(method, name), "gain"] < 0
            assert tests.loc[(method, name), "p"] < 0.001
        assert (tests.loc[[(method, each) for each in REAL[2:]], "p"] > 0.1).all()
    alone = tests.loc[("class-alone", "esports")]
    assert alone["p"] < 0.05
    told = f"{alone['gain']:.3f}".removeprefix("0")
    assert f"their error rises by {told} on esports" in words
    rows = kept["settings"].set_index(["method", "dataset"])["gain"]
    gaps = [rows["class-alone", each] - rows["weight-4", each] for each in REAL]
    assert f"gain up to {points(max(gaps))} points more" in words
    sure = kept["sureness"].set_index("dataset")
    assert (1 - sure.loc["esports", "right"]).mean() > 0.25
    # The temperature that was taken is the one of both that fits the others best.
    for name in REAL:
        other = sure[~sure.index.str.startswith(name.split("-")[0])]
        assert 0.35 < np.exp(np.log(other["temperature"]).mean()) < 0.6


def test_the_readme_says_the_same(kept):
    words = " ".join(README.split())
    rows = kept["one"].set_index(["method", "dataset"])
    first, second, third, fourth = (
        points(rows.loc[("weight-4", name), "gain"]) for name in REAL
    )
    assert (
        f"gains {first} points over the same network without adaptation on single "
        f"windows of eegmat (36 people), {second} on sequences of 32 s, {third} on "
        f"ssvep-exo (12) and {fourth} on esports (8)"
    ) in words
    lost = harmed(rows.loc["weight-4"])
    assert f"of 276 people with networks {lost} lose more than 5 points" in words
    assert rows.loc[("weight-4", "esports"), "trial gain"] < 0
    grouped = kept["settings"].set_index(["method", "dataset"]).loc["uf-ama", "gain"]
    usual = ", ".join(points(grouped[name]) for name in REAL[:3])
    assert f"gains {usual} and {points(grouped[REAL[3]])} there" in words
    # What the default gives is the adapter's own.
    adapter = WholeTrials()
    assert (adapter.weight, adapter.temperature, adapter.trust) == (4.0, 0.5, "margin")


def test_what_was_asked_of_a_default_is_so(kept):
    """By settings chosen on other data sets, and by the default's own."""
    words = " ".join(PAGE.split())
    planted = kept["planted"].set_index(["method", "dataset"]).loc["weight-4"]
    lost = planted[planted["gain"] < 0]
    assert list(lost.index) == ["esports-shift"]
    assert (planted["harmed"] < 0.05).all()
    (loss,), (p,) = -lost["gain"], lost["p"]
    assert p > 0.05
    assert f"-{points(loss)} on esports (p = {p:.3f}".replace("= 0", "= ") in words
    rows = kept["one"].set_index(["method", "dataset"]).sort_index()
    tests = kept["one-tests"].set_index(["of", "method", "against", "dataset"])
    tests = tests.sort_index()
    told = {}
    for method in ("chosen", "weight-4"):
        gain = rows.loc[method, "gain"][list(REAL)].mean()
        together = tests.loc[("score", method, "source only", "together")]
        assert min(gain, together["gain"]) > 0.02 and together["p"] < 0.001
        share = harmed(rows.loc[method]) / 276
        assert share < 0.05
        errors = tests.loc[("error", method, "source only")]
        assert not ((errors["gain"] > 0) & (errors["p"] < 0.05)).any()
        told[method] = points(gain), points(together["gain"]), points(share)
    (gain, together, share), (own, groups, fewer) = told.values()
    assert (
        f"it gains {gain} points over the four sets, {together} by groups of people, "
        f"and by weight 4 alone {own} and {groups} (p < .001 each); {share} % are "
        f"harmed, by weight 4 {fewer} %"
    ) in words
    assert rows.loc["weight-4", "harmed"].max() < 0.05
    above = rows.loc["chosen", "harmed"]
    assert list(above.index[above > 0.05]) == ["esports"]
    assert round(above["esports"] * 24) == 2
    assert "On esports by itself the chosen setting harms 2 of 24" in words
    grouped = kept["settings"].query("method == 'chosen'").set_index("dataset")["gain"]
    one, other = (
        grouped.loc[list(REAL)].mean(),
        kept["tests"].query("of == 'score' and dataset == 'together'")["gain"].iloc[0],
    )
    assert one < 0.02
    assert f"people left out it gains {points(one)} and {points(other)}" in words
    for kind in (RunChoices, BenchmarkChoices):
        name = "adapter" if kind is RunChoices else "adapters"
        assert "whole-trials" in choices_of(kind)[name].default
