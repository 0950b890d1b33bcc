"""Signs of harm: by hand, without labels; and the page says what its tables say."""

import importlib
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from domainemo.runs.metrics import metrics

ROOT = Path(__file__).parents[1]
CLASSES = 3
NETWORK = "network"


@pytest.fixture(scope="module")
def harm():
    """The scripts, which import what stands beside them."""
    names = ("predicted", "signs", "remedies", "harm_page", "harm_signs")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return SimpleNamespace(
            **{name: importlib.import_module(name) for name in names}
        )


def some_windows():
    """Two people of unlike sessions and trials, sorted."""
    rows = [
        (subject, session, trial, float(start))
        for subject, sessions in ((3, 1), (7, 2))
        for session, trial in product(range(sessions), range(4))
        for start in range(2 + trial)
    ]
    return pd.DataFrame(rows, columns=["subject", "session", "trial", "start"])


def predictions(number, seeds=3, start=0):
    drawn = np.random.default_rng(start).dirichlet(np.ones(CLASSES), (seeds, number))
    return drawn.astype(np.float32).astype(np.float64)


def write_cell(folder, windows, methods, labels):
    """Write predictions as a run does: label beside prediction, in another order."""
    parts = []
    for method, values in methods.items():
        for seed, own in enumerate(values):
            table = windows.assign(
                label=labels, predicted=own.argmax(1), method=method, seed=seed
            )
            for number in range(CLASSES):
                table[f"p_{number}"] = own[:, number]
            parts.append(table.sample(frac=1, random_state=seed))
    folder.mkdir(parents=True)
    pd.concat(parts).to_parquet(folder / "predictions.parquet", index=False)


def write_output(folder, labels):
    windows = some_windows()
    number = len(windows)
    cells = folder / "cells" / "some" / "cross-subject" / NETWORK
    plain = {
        "source only": predictions(number, start=1),
        "logistic regression": predictions(number, 1, start=2),
    }
    write_cell(cells / "none", windows, plain, labels)
    for start, name in ((3, "dann"), (4, "bnm"), (5, "shot")):
        one = {name: predictions(number, start=start)}
        write_cell(cells / name, windows, one, labels)
    return folder


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(9).integers(CLASSES, size=len(some_windows()))


@pytest.fixture(scope="module")
def output(tmp_path_factory, labels):
    return write_output(tmp_path_factory.mktemp("output"), labels)


def entropy(shares):
    return -sum(p * np.log(p) for p in shares if p > 0) / np.log(CLASSES)


def by_hand(windows, probabilities, linear, others):
    """The facts of one person, window by window."""
    seeds, number = len(probabilities), len(windows)
    answers = [[int(np.argmax(p)) for p in one] for one in probabilities]
    trials = [tuple(row) for row in windows[["session", "trial"]].to_numpy()]
    found = {name: [] for name in ("linear", "others", "trial", "confidence")}
    found |= {name: [] for name in ("balance", "smallest", "information", "seeds")}
    for seed, own in enumerate(answers):
        same = [own[w] == int(np.argmax(linear[w])) for w in range(number)]
        found["linear"].append(sum(same) / number)
        same = [own[w] == int(np.argmax(others[seed][w])) for w in range(number)]
        found["others"].append(sum(same) / number)
        whole = 0
        for trial in set(trials):
            there = [own[w] for w in range(number) if trials[w] == trial]
            whole += max(there.count(c) for c in range(CLASSES))
        found["trial"].append(whole / number)
        found["confidence"].append(sum(max(p) for p in probabilities[seed]) / number)
        mean = [sum(p[c] for p in probabilities[seed]) / number for c in range(CLASSES)]
        found["balance"].append(entropy(mean))
        found["smallest"].append(min(own.count(c) for c in range(CLASSES)) / number)
        each = sum(entropy(p) for p in probabilities[seed]) / number
        found["information"].append(entropy(mean) - each)
    for a, b in combinations(range(seeds), 2):
        same = [answers[a][w] == answers[b][w] for w in range(number)]
        found["seeds"].append(sum(same) / number)
    return {name: sum(values) / len(values) for name, values in found.items()}


def test_signs_by_hand(harm):
    windows = some_windows()
    number = len(windows)
    adapted, source, others = (predictions(number, start=s) for s in (1, 2, 3))
    (linear,) = predictions(number, 1, start=4)
    found = harm.signs.signs(windows, adapted, source, linear, others)
    assert list(found.columns) == harm.signs.SIGNS and list(found.index) == [3, 7]
    for person in (3, 7):
        own = (windows["subject"] == person).to_numpy()
        parts = windows[own], linear[own], others[:, own]
        after, before = (
            by_hand(parts[0], p[:, own], *parts[1:]) for p in (adapted, source)
        )
        changed = adapted[:, own].argmax(-1) != source[:, own].argmax(-1)
        assert found.loc[person, "changed"] == pytest.approx(-changed.mean())
        for fact in harm.signs.FACTS:
            row = found.loc[person]
            assert row[f"{fact}, adapted"] == pytest.approx(after[fact])
            assert row[f"{fact}, source only"] == pytest.approx(before[fact])
            rise = after[fact] - before[fact]
            assert row[f"{fact}, rise"] == pytest.approx(rise, abs=1e-8)


def test_no_label_gets_into_a_sign(harm, output, labels, tmp_path):
    """Other labels in the files, the same signs, and other gains."""
    noise = np.roll(labels[::-1], 1)
    (place,) = harm.predicted.read(output)
    (other,) = harm.predicted.read(write_output(tmp_path / "noise", noise))
    assert not {"label", "predicted"} & {*place.windows.columns}
    signs = harm.harm_signs.signs_of
    pd.testing.assert_frame_equal(signs(place), signs(other))
    gains = [
        harm.harm_signs.gains_of(each, harm.predicted.labels_of(folder, "some", w))
        for each, folder, w in (
            (place, output, place.windows),
            (other, tmp_path / "noise", other.windows),
        )
    ]
    assert not gains[0]["gain"].equals(gains[1]["gain"])
    labelled = place.windows.assign(label=labels)
    arrays = [place.predicted["bnm"]] * 2
    with pytest.raises(ValueError, match=r"nothing else; found .*label"):
        harm.signs.signs(labelled, *arrays, place.linear, arrays[0])


def test_what_is_read_is_what_was_predicted(harm, output, labels):
    """Whatever the order of rows; gains and calibration are those of the library."""
    (place,) = harm.predicted.read(output)
    windows = some_windows()
    assert (place.dataset, place.backbone) == ("some", NETWORK)
    pd.testing.assert_frame_equal(place.windows, windows)
    np.testing.assert_array_equal(
        place.predicted["dann"], predictions(len(windows), start=3)
    )
    read = harm.predicted.labels_of(output, "some", place.windows)
    np.testing.assert_array_equal(read, labels)
    gains = harm.harm_signs.gains_of(place, labels).set_index(["adapter", "person"])
    ensembles = harm.harm_signs.ensembles_of(place, labels)
    adapted = ensembles[ensembles["recipe"] == harm.remedies.ALWAYS]
    adapted = adapted.set_index(["adapter", "person"])
    for name, person in product(("dann", "shot"), (3, 7)):
        own = (windows["subject"] == person).to_numpy()
        after, before = (
            [metrics(labels[own], one[own]) for one in place.predicted[method]]
            for method in (name, "source only")
        )
        seeds = [
            a["balanced_accuracy"] - b["balanced_accuracy"]
            for a, b in zip(after, before, strict=True)
        ]
        row = gains.loc[(name, person)]
        for seed, gain in enumerate(seeds):
            assert row[f"seed {seed}"] == pytest.approx(gain)
        assert row["gain"] == pytest.approx(np.mean(seeds))
        assert adapted.loc[(name, person), "gain"] == pytest.approx(np.mean(seeds))
        error = np.mean([each["calibration_error"] for each in after])
        assert adapted.loc[(name, person), "error"] == pytest.approx(error)


def test_pairs_are_counted(harm):
    """Against a loop over all pairs."""
    random = np.random.default_rng(0)
    values = random.integers(4, size=(5, 4)).astype(float)
    harmed = random.random((5, 4)) < 0.4
    expected = np.zeros((2, 2, 5, 5))
    for p, q, a, b in product(range(5), range(5), range(4), range(4)):
        if harmed[p, a] and not harmed[q, b]:
            won = (values[p, a] < values[q, b]) + 0.5 * (values[p, a] == values[q, b])
            expected[0, :, p, q] += won, 1
            if a == b:
                expected[1, :, p, q] += won, 1
    np.testing.assert_array_equal(harm.signs.pairs(values, harmed), expected)


def people(harm, seed=0):
    """Three data sets of several people, with a sign that tells."""
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [
            {"dataset": d, "backbone": "n", "adapter": "a", "person": p}
            for d, size in (("x", 12), ("y", 6), ("z", 8))
            for p in range(size)
        ]
    )
    rows[harm.signs.SIGNS] = random.normal(size=(len(rows), len(harm.signs.SIGNS)))
    noise = random.normal(size=len(rows))
    rows["gain"] = 0.05 * rows["trial, rise"] + 0.01 * noise
    for number in range(2):
        rows[f"seed {number}"] = rows["gain"]
        rows[f"linear, rise, seed {number}"] = rows["linear, rise"]
    return rows


def test_a_threshold_is_the_best_there_is(harm):
    rows = people(harm)
    threshold, gain = harm.remedies.learned(rows, "trial, rise")

    def reached(value):
        kept = rows["gain"].where(rows["trial, rise"] >= value, 0.0)
        return kept.groupby(rows["dataset"]).mean().mean()

    assert gain == pytest.approx(reached(threshold))
    assert gain >= max(map(reached, rows["trial, rise"])) - 1e-12
    rows["gain"] = -1.0
    assert harm.remedies.learned(rows, "trial, rise") == (np.inf, 0.0)


def test_rules_do_not_see_whom_they_are_for(harm):
    """Other gains on a data set change its figures, not who is adapted there."""
    rows = people(harm)
    first = harm.remedies.ruled(rows)
    rows.loc[rows["dataset"] == "y", "gain"] *= -3
    second = harm.remedies.ruled(rows)
    seen = [
        each[(each["dataset"] == "y") & (each["rule"] != harm.remedies.KNOWN)]
        for each in (first, second)
    ]
    pd.testing.assert_series_equal(seen[0]["adapts"], seen[1]["adapts"])
    best = first[first["rule"] == harm.remedies.BEST]
    assert set(best["sign"]) == {"trial, rise"}
    always = first[first["rule"] == harm.remedies.ALWAYS]["gain"].mean()
    assert best["gain"].mean() > always
    assert first[first["rule"] == harm.remedies.NEVER]["gain"].eq(0).all()


def test_ensembles_by_hand(harm):
    source, adapted = (predictions(30, start=s) for s in (1, 2))
    (linear,) = predictions(30, 1, start=3)
    found = harm.remedies.blends(source, adapted, linear)
    both = found["source only + adapted"]
    np.testing.assert_allclose(both, (source + adapted) / 2)
    averaged = found["source only + adapted, seeds averaged"]
    np.testing.assert_allclose(averaged[0], (source + adapted).mean(0) / 2)
    votes = found[harm.remedies.VOTES].argmax(-1)
    for seed, window in product(range(3), range(30)):
        three = [source[seed, window], adapted[seed, window], linear[window]]
        answers = [int(each.argmax()) for each in three]
        most = [c for c in answers if answers.count(c) > 1] or [
            np.sum(three, 0).argmax()
        ]
        assert votes[seed, window] == most[0]
    fixed = harm.remedies.fixed(source, linear, {"bnm": adapted}, ["bnm", "dann"])
    two = fixed[harm.remedies.TWO]
    np.testing.assert_allclose(two[1], (source[0] + source[2]) / 2)
    np.testing.assert_allclose(fixed["source only + ten adapters"], both)


def test_who_is_unlike_linear_gets_source_only(harm):
    rows = people(harm)
    keys = ["dataset", "backbone", "adapter", "person"]
    both = rows[keys].assign(recipe=harm.remedies.BOTH, gain=0.3, error=0.1)
    never = rows[keys].assign(recipe=harm.remedies.NEVER, gain=0.0, error=0.2)
    parts = [both, never.assign(adapter="(none)")]
    for one, recipe in ((both, "BOTH"), (parts[1], "NEVER")):
        name = f"{harm.remedies.BOTH}{harm.remedies.AVERAGED}"
        named = name if recipe == "BOTH" else harm.remedies.SEEDS
        parts.append(one.assign(recipe=named, gain=one["gain"] + 0.01))
    found = harm.remedies.gated(pd.concat(parts), rows)
    for recipe, more in ((harm.remedies.GATED, 0.0), (found["recipe"].iloc[-1], 0.01)):
        own = found[found["recipe"] == recipe].merge(rows[[*keys, "linear, rise"]])
        agrees = own["linear, rise"] >= 0
        assert 0 < agrees.sum() < len(own) == len(rows)
        np.testing.assert_allclose(own["gain"], np.where(agrees, 0.3, 0.0) + more)
        np.testing.assert_allclose(own["error"], np.where(agrees, 0.1, 0.2))


def test_the_page_is_its_tables(harm):
    page = (ROOT / "docs" / "harm-signs.md").read_text(encoding="utf-8")
    tables = harm.harm_page.kept()
    for mark, shown in harm.harm_page.rendered(tables).items():
        assert (
            page.split(f"<!-- {mark} -->\n")[1].split(f"\n<!-- end of {mark} -->")[0]
            == shown
        ), mark
    everybody = tables["people"]
    assert len(everybody) == 83 and everybody.shape[1] == 2 + 36 + 8 + 12
    assert {*harm.harm_signs.TEN} <= {*everybody["adapter"]}


def test_the_page_claims_what_its_tables_say(harm):
    tables = harm.harm_page.kept()
    signs = tables["signs"].set_index(["group", "view", "sign"]).sort_index()
    few = signs.loc[(harm.harm_page.FEW, "same adapter")]
    before = few.loc[[name for name in few.index if name.endswith("source only")]]
    assert ((before["low"] < 0.5) & (before["high"] > 0.5)).all()
    sure = few[few["low"] > 0.5]
    assert sure["auroc"].idxmax() == "others, rise"
    assert (few.loc["others, rise", ["eegmat", "esports", "ssvep-exo"]] > 0.8).all()
    inside = tables["inside"].set_index(["group", "sign"]).loc[harm.harm_page.FEW]
    assert list(inside.index) == [*harm.signs.INSIDE]
    told = inside.index[(inside["low"] > 0.5) | (inside["high"] < 0.5)]
    assert list(told) == ["typical"]
    assert list(inside.index[inside["low, all signs"] > 0.5]) == ["typical"]
    assert (inside["high, all signs"] > 0.5).all()
    assert (inside["rank correlation"].abs() < 0.075).all()
    assert (inside["helped"].round(2) >= 0.6).all() and inside["helped"].max() < 0.7
    assert (inside["eegmat"].round(2) >= 0.79).all() and (
        inside["esports"] < 0.655
    ).all()
    rules = tables["rules"]
    few_rules = rules[rules["group"] == harm.harm_page.FEW].set_index("rule")
    asked = few_rules.loc[
        "agreement with logistic regression: no less than source only"
    ]
    always = few_rules.loc[harm.remedies.ALWAYS]
    assert asked["harmed"] < always["harmed"] / 4 and asked["gain"] > 0 > always["gain"]
    for learned in (harm.remedies.BEST, harm.remedies.RIDGE):
        assert few_rules.loc[learned, "harmed"] > asked["harmed"]
    recipes = tables["recipes"].set_index(["group", "recipe"]).sort_index()
    harmless = [
        name
        for name in harm.harm_signs.TEN
        if recipes.loc[(name, harm.remedies.BOTH), "harmed"] == 0
    ]
    assert sorted(harmless) == sorted(
        ["uf-ama", "deep-coral", "dan", "dann", "cdan", "bnm", "tent"]
    )
    two = recipes.loc[(harm.harm_page.FEW, harm.remedies.TWO)]
    assert two["harmed"] == 0 and two["gain"] > 0.006
    more = {
        name: recipes.loc[("uf-ama", harm.remedies.BOTH), f"gain, {name}"]
        - two[f"gain, {name}"]
        for name in ("eegmat", "esports", "ssvep-exo")
    }
    assert {name: round(100 * gain, 1) for name, gain in more.items()} == {
        "eegmat": 0.6,
        "esports": 0.2,
        "ssvep-exo": -0.9,
    }
    both = recipes[
        recipes.index.get_level_values("recipe").str.startswith(harm.remedies.BOTH)
    ]
    better = (
        both["gain"] > recipes.loc[(harm.harm_page.FEW, harm.remedies.SEEDS), "gain"]
    )
    assert (both["p, seeds"][better] > 0.05).all()
