"""What learning from whole trials is worth: tables and figure of its page.

    domainemo benchmark benchmarks/whole-trials.toml --data-root DATA --output OUTPUT
    domainemo benchmark benchmarks/whole-trials-planted.toml --output PLANTED
    python benchmarks/whole_trials.py OUTPUT PLANTED [--page]

Reads predictions; nothing is trained. Labels come in to score what was predicted
without them. Prints the tables of docs/whole-trials.md; `--page` keeps them in
docs/tables/whole-trials and writes page and figure. Those of one person at a time are
of `whole_trials_one.py`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pages import write_page
from planted import spoiled
from predicted import (
    LINEAR,
    SOURCE,
    Place,
    balanced_accuracy,
    calibration_errors,
    labels_of,
    read,
)
from scipy.special import softmax
from whole_trials_page import NAME, drawn, kept, rendered

from domainemo.statistics.paired import Comparison, compare
from domainemo.statistics.several import holm, stouffer
from domainemo.statistics.temperature import best_temperature

Values = NDArray[np.float64]

CANDIDATES: Mapping[float, Sequence[str]] = {
    1.0: ("mean-itself",),
    0.5: ("weight-2", "weight-4", "weight-8", "trust-all", "aligned"),
}
"""By temperature, settings among which one is chosen on other data sets."""

HARM = -0.05
"""Who gains less is harmed."""

MOST_HARMED = 0.05
"""No setting is chosen that harms more people than that on the other data sets."""

MOST_ERROR = 0.01
"""Nor one whose calibration error is higher by more on any of them."""

SETTINGS = ("class-alone", *itertools.chain.from_iterable(CANDIDATES.values()))
"""All that were tried."""

AVERAGED = ", seeds averaged"
CHOSEN, ORACLE, BETTER = "chosen", "oracle", "better of both"
TRIAL = ["subject", "session", "trial"]
SAME_PEOPLE = {"eegmat-windows": "eegmat", "eegmat-sequences": "eegmat"}
"""Data sets of the same people, which are one in all that is said of several."""


def people(output: Path) -> pd.DataFrame:
    """Return a row for each person, network and method of every data set.

    Scores are means over seeds; `gain` and `trial gain` are over source only of the
    same network, of single samples and of whole trials by their mean probabilities.
    """
    parts = []
    for place in read(output, called="entry"):
        labels = labels_of(output, place.dataset, place.windows)
        rows = scores(place, labels)
        base = rows[rows["method"] == SOURCE].set_index("person")
        for score, gain in (("score", "gain"), ("trial score", "trial gain")):
            less = rows[score] - base.loc[rows["person"], score].to_numpy()
            rows[gain] = less.round(9)  # a loss of 5 points is not one of more
        parts.append(rows.assign(dataset=place.dataset, backbone=place.backbone))
    return pd.concat(parts, ignore_index=True)


def scores(place: Place, labels: NDArray[np.int64]) -> pd.DataFrame:
    """Return every person's scores and calibration error by each method of a place."""
    names, codes = np.unique(place.windows["subject"], return_inverse=True)
    trials = place.windows.groupby(TRIAL, sort=False).ngroup().to_numpy()
    first = np.unique(trials, return_index=True)[1]
    predicted = {**place.predicted, LINEAR: place.linear[None]}
    averaged = {
        f"{name}{AVERAGED}": values.mean(0, keepdims=True)
        for name, values in place.predicted.items()
    }
    parts = []
    for name, values in {**predicted, **averaged}.items():
        whole = means_of(values, trials)
        own = {
            "method": name,
            "person": names,
            "score": balanced_accuracy(values.argmax(-1), labels, codes).mean(0),
            "trial score": balanced_accuracy(
                whole.argmax(-1), labels[first], codes[first]
            ).mean(0),
            "error": calibration_errors(values, labels, codes).mean(0),
        }
        parts.append(pd.DataFrame(own))
    return pd.concat(parts, ignore_index=True)


def means_of(values: Values, trials: NDArray[np.int64]) -> Values:
    """Return the mean of each trial; shape (seeds, trials, classes).

    Parameters
    ----------
    values : ndarray, shape (seeds, samples, classes)
    trials : ndarray of int, shape (samples,)
        From 0.
    """
    counts = np.bincount(trials)
    sums = np.zeros((len(counts), len(values), values.shape[-1]))
    np.add.at(sums, trials, values.swapaxes(0, 1))
    found: Values = (sums / counts[:, None, None]).swapaxes(0, 1)
    return found


def summarised(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return mean gains, who is harmed and the worst, of groups of rows.

    Networks and people count alike. Calibration is the mean error, less source only's.
    """
    base = rows[rows["method"] == SOURCE].set_index(["dataset", "backbone", "person"])
    keys = pd.MultiIndex.from_frame(rows[["dataset", "backbone", "person"]])
    more = rows["error"] - base["error"].loc[keys].to_numpy()
    told = rows.assign(
        harmed=rows["gain"] < HARM,
        **{"trial harmed": rows["trial gain"] < HARM, "error, more": more},
    )
    grouped = told.groupby(list(by), sort=False)
    columns = ["score", "gain", "harmed", "trial gain", "trial harmed", "error, more"]
    found = grouped[columns].mean()
    return found.assign(worst=grouped["gain"].min()).reset_index()


def choose(settings: pd.DataFrame, sure: pd.DataFrame, dataset: str) -> str:
    """Return the setting of the highest mean gain on all other data sets.

    Its temperature is the one that fits best there; it harms few and is calibrated.

    Parameters
    ----------
    settings : DataFrame
        A row for each data set and method, with `gain`, `harmed` and `error, more`.
    sure : DataFrame
        See :func:`sureness`.
    dataset : str
        Left out, with all others of the same people.
    """
    settings, sure = others(settings, dataset), others(sure, dataset)
    fitted = np.log(sure["temperature"]).mean()
    nearest = min(CANDIDATES, key=lambda each: abs(np.log(each) - fitted))
    grouped = settings[settings["method"].isin(CANDIDATES[nearest])].groupby("method")
    means, most = grouped[["gain", "harmed"]].mean(), grouped["error, more"].max()
    fit = means[(means["harmed"] < MOST_HARMED) & (most <= MOST_ERROR)]
    return str((fit if len(fit) else means)["gain"].idxmax())


def others(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return the rows of all data sets but one, and those of the same people."""
    group = SAME_PEOPLE.get(dataset, dataset)
    return table[table["dataset"].replace(SAME_PEOPLE) != group]


def left_out(
    rows: pd.DataFrame, sure: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows by the setting chosen on other data sets, and what was chosen.

    Also rows of the best setting for each person, by the labels: no method, but a
    ceiling.
    """
    settings = summarised(rows, ["dataset", "method"])
    names = {
        each: choose(settings, sure, each) for each in settings["dataset"].unique()
    }
    all_of = rows[rows["method"].isin([SOURCE, LINEAR, *SETTINGS])]
    order = all_of.sort_values("score", kind="stable")
    kept = order.drop_duplicates(["dataset", "backbone", "person"], keep="last")
    best = kept.sort_index()
    chosen = pd.DataFrame(list(names.items()), columns=["dataset", "chosen"])
    parts = [as_chosen(rows, names), best.assign(method=ORACLE)]
    return pd.concat(parts, ignore_index=True), chosen


def as_chosen(rows: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Return rows by the setting that is named for each data set.

    Also of the best that source only and logistic regression do for each network.
    """
    parts = []
    for (dataset, _), own in rows.groupby(["dataset", "backbone"], sort=False):
        for more in ("", AVERAGED):
            mine = own[own["method"] == f"{names[dataset]}{more}"]
            parts.append(mine.assign(method=f"{CHOSEN}{more}"))
        means = own.groupby("method")["score"].mean()
        best = means.loc[[SOURCE, LINEAR]].idxmax()
        parts.append(own[own["method"] == best].assign(method=BETTER))
    return pd.concat(parts, ignore_index=True)


def tested(
    rows: pd.DataFrame, method: str, against: str, of: str = "score"
) -> pd.DataFrame:
    """Return gains of a method over another, with p for each data set and together.

    Of scores, or, with ``"error"``, what its calibration error is more.

    People are the unit, networks averaged first. Corrected by Holm over the data sets;
    together by Stouffer, data sets of the same people averaged.
    """
    wide = rows.pivot_table(
        index=["dataset", "person"], columns="method", values=of, sort=False
    )
    gaps = (wide[method] - wide[against]).dropna()
    found = [
        {"dataset": name, "gain": own.mean(), "p": paired(own).p}
        for name, own in gaps.groupby("dataset", sort=False)
    ]
    table = pd.DataFrame(found)
    table["p"] = holm(table["p"].tolist())
    together = gaps.rename(index=SAME_PEOPLE, level="dataset")
    together = together.groupby(["dataset", "person"], sort=False).mean()
    combined = stouffer(
        [paired(own) for _, own in together.groupby("dataset", sort=False)]
    )
    means = together.groupby("dataset", sort=False).mean()
    last = {"dataset": "together", "gain": means.mean(), "p": combined.p}
    return pd.concat([table, pd.DataFrame([last])], ignore_index=True).assign(
        method=method, against=against, of=of
    )


def paired(gaps: pd.Series) -> Comparison:
    """Return the comparison of some differences with zero."""
    values = gaps.to_numpy(float)
    return compare(values, np.zeros_like(values))


def by_dataset(rows: pd.DataFrame) -> pd.DataFrame:
    """Return gains and p of each data set; of a bad sensor, of those who have it."""
    parts = []
    for dataset, own in rows.groupby("dataset", sort=False):
        if str(dataset).endswith("-sensor"):
            own = own[own["person"].isin(spoiled(sorted(own["person"].unique())))]
        parts.append(own)
    kept = pd.concat(parts, ignore_index=True)
    table = summarised(kept, ["dataset", "method"])
    p = []
    for dataset, method in zip(table["dataset"], table["method"], strict=True):
        own = kept[(kept["dataset"] == dataset) & (kept["method"] == method)]
        p.append(paired(own.groupby("person")["gain"].mean()).p)
    return table.assign(p=p)


def sureness(output: Path) -> pd.DataFrame:
    """Return how sure trials' means are, how often right, and what would mend that.

    Of source only, of whole trials; `temperature` is the one by which the means
    predict labels best.
    """
    rows = []
    for place in read(output, called="entry"):
        labels = labels_of(output, place.dataset, place.windows)
        trials = place.windows.groupby(TRIAL, sort=False).ngroup().to_numpy()
        first = np.unique(trials, return_index=True)[1]
        means = means_of(place.predicted[SOURCE], trials)
        told = np.log(means.clip(1e-12)).reshape(-1, means.shape[-1])
        truth = np.tile(labels[first], len(means))
        rows.append(
            {
                "dataset": place.dataset,
                "backbone": place.backbone,
                "right": (told.argmax(-1) == truth).mean(),
                "sure": softmax(told, -1).max(-1).mean(),
                "sharpened": softmax(2 * told, -1).max(-1).mean(),
                "temperature": best_temperature(told, truth),
            }
        )
    return pd.DataFrame(rows)


def tables_of(
    rows: pd.DataFrame, planted: pd.DataFrame, sure: pd.DataFrame
) -> Mapping[str, pd.DataFrame]:
    """Return all tables by name."""
    held, chosen = left_out(rows, sure)
    every = pd.concat([rows, held], ignore_index=True)
    real = every[every["dataset"] != "simulated"]
    shown = [CHOSEN, f"{SOURCE}{AVERAGED}", "uf-ama", LINEAR]
    tests = [tested(real, each, SOURCE) for each in shown]
    tests.append(tested(real, CHOSEN, BETTER))
    sure = [CHOSEN, "weight-4", "class-alone", "uf-ama"]
    tests += [tested(real, each, SOURCE, "error") for each in sure]
    nested = summarised(every, ["dataset", "method"])
    return {
        "settings": nested,
        "networks": summarised(every, ["dataset", "backbone", "method"]),
        "tests": pd.concat(tests, ignore_index=True),
        "chosen": chosen.merge(
            nested[nested["method"] == CHOSEN].drop(columns="method"), on="dataset"
        ),
        "planted": by_dataset(planted),
        "people": every.groupby(["dataset", "method", "person"], sort=False)[["gain"]]
        .mean()
        .reset_index(),
    }


def main() -> None:
    """Print the tables; with `--page`, keep them and write page and figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("planted", type=Path, metavar="PLANTED")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    sure = sureness(given.output)
    tables = {
        **tables_of(people(given.output), people(given.planted), sure),
        "sureness": pd.concat([sure, sureness(given.planted)], ignore_index=True),
    }
    for name, table in tables.items():
        if name != "people":
            print(f"\n{name}\n{table.round(3).to_string()}")
    if given.page:
        write_page(NAME, tables, kept, rendered, drawn)


if __name__ == "__main__":
    main()
