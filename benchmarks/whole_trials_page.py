"""Tables and figure of docs/whole-trials.md, made of the tables that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pages import TABLES, markdown

from domainemo.reports.style import COLOURS, WIDTH, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DATASETS", "NAME", "WORDS", "drawn", "kept", "rendered"]

NAME = "whole-trials"
DATASETS = ("eegmat-windows", "eegmat-sequences", "esports", "ssvep-exo", "simulated")
WORDS: Mapping[str, str] = {
    "source only, seeds averaged": "source only, five seeds averaged",
    "logistic regression": "logistic regression",
    "uf-ama": "`uf-ama`",
    "weight-2": "`whole-trials`, weight 2",
    "weight-4": "`whole-trials`, weight 4",
    "weight-8": "`whole-trials`, weight 8",
    "trust-all": "`whole-trials`, every trial trusted alike",
    "aligned": "`uf-ama+whole-trials`",
    "mean-itself": "`whole-trials`, temperature 1: the mean itself",
    "class-alone": "`whole-trials`, temperature 0: the class alone",
    "chosen": "**chosen on the others**",
    "chosen, seeds averaged": "chosen on the others, five seeds averaged",
    "oracle": "best of all for each person, by the labels",
}
"""Methods in the order of the tables, and what they are called there."""


def kept(folder: Path = TABLES / NAME) -> dict[str, pd.DataFrame]:
    """Return the tables that are kept, by name."""
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def rendered(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return what stands in the page, as Markdown, by its mark."""
    return {
        "trials-gains": _gains(tables["settings"]),
        "trials-chosen": _chosen(tables["chosen"]),
        "trials-tests": _tests(tables["tests"], "score"),
        "trials-calibration": _tests(tables["tests"], "error"),
        "trials-sure": _sure(tables["sureness"]),
        "trials-networks": _networks(tables["networks"]),
        "trials-whole": _whole(tables["settings"]),
        "trials-planted": _by_dataset(
            tables["planted"], ["uf-ama", "weight-4", "weight-8"]
        ),
        "trials-one": _by_dataset(tables["one"], ["uf-ama", "weight-4", "chosen"]),
        "trials-one-planted": _by_dataset(tables["one-planted"], ["weight-4"]),
        "trials-one-tests": _tests(tables["one-tests"], "score"),
        "trials-one-calibration": _tests(tables["one-tests"], "error"),
    }


def points(value: float) -> str:
    """Return a share as points, with its sign."""
    return f"{100 * value:+.1f}"


def percent(share: float) -> str:
    """Return a share in percent, rounded up where it would seem to be none."""
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"


def _p(value: float) -> str:
    if np.isnan(value):
        return "too few people"
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _gains(table: pd.DataFrame) -> str:
    wide = table.set_index(["method", "dataset"])
    rows = []
    for method, words in WORDS.items():
        own = [wide.loc[(method, each)] for each in DATASETS]
        cells = [
            f"{points(each['gain'])}, {percent(each['harmed'])} %, "
            f"{points(each['worst'])}"
            for each in own
        ]
        rows.append([words, *cells])
    return markdown(["", *DATASETS], rows)


def _chosen(table: pd.DataFrame) -> str:
    rows = [
        [
            each["dataset"],
            WORDS[each["chosen"]],
            f"{each['score']:.3f}",
            points(each["gain"]),
            percent(each["harmed"]),
            points(each["worst"]),
            f"{each['error, more']:+.3f}",
        ]
        for _, each in table.iterrows()
    ]
    heads = [
        "left out",
        "chosen on the others",
        "balanced accuracy",
        "less source only",
    ]
    more = ["harmed, %", "worst", "calibration error, less source only's"]
    return markdown([*heads, *more], rows)


def _tests(table: pd.DataFrame, of: str) -> str:
    told = points if of == "score" else "{:+.3f}".format
    table = table[table["of"] == of]
    places = list(dict.fromkeys(table["dataset"]))
    rows = []
    for (method, against), own in table.groupby(["method", "against"], sort=False):
        by = own.set_index("dataset")
        less = "the better of source only and logistic regression"
        words = WORDS.get(method, method).replace("chosen on the others", "chosen")
        rows.append(
            [
                f"{words} less {'source only' if against == 'source only' else less}",
                *(f"{told(by.loc[p, 'gain'])} ({_p(by.loc[p, 'p'])})" for p in places),
            ]
        )
    return markdown(["", *places], rows)


def _networks(table: pd.DataFrame) -> str:
    wide = table.set_index(["method", "dataset", "backbone"])
    backbones = list(dict.fromkeys(table["backbone"]))
    rows = [
        [
            dataset,
            *(
                f"{wide.loc[('source only', dataset, each), 'score']:.3f}, "
                f"{points(wide.loc[('chosen', dataset, each), 'gain'])}"
                for each in backbones
            ),
        ]
        for dataset in DATASETS
    ]
    return markdown(["source only, and gain of the chosen", *backbones], rows)


def _sure(table: pd.DataFrame) -> str:
    """Return, for each data set, how sure and how right; networks averaged."""
    columns = ["right", "sure", "sharpened"]
    rows = []
    for dataset, own in table.groupby("dataset", sort=False):
        cells = [f"{own[each].mean():.2f}" for each in columns]
        fitted = own["temperature"]
        rows.append([dataset, *cells, f"{fitted.min():.2f} to {fitted.max():.2f}"])
    heads = ["recordings", "right", "sure", "sure, temperature 1/2"]
    return markdown([*heads, "temperature that fits best"], rows)


def _whole(table: pd.DataFrame) -> str:
    wide = table.set_index(["method", "dataset"])
    names = [each for each in WORDS if each != "oracle"]
    rows = [
        [
            WORDS[method],
            *(
                f"{points(wide.loc[(method, each), 'trial gain'])}, "
                f"{percent(wide.loc[(method, each), 'trial harmed'])} %"
                for each in DATASETS
            ),
        ]
        for method in names
    ]
    return markdown(["", *DATASETS], rows)


def _by_dataset(table: pd.DataFrame, methods: Sequence[str]) -> str:
    own = table[table["method"].isin(methods)]
    rows = [
        [
            each["dataset"],
            WORDS.get(each["method"], f"`{each['method']}`"),
            f"{each['score']:.3f}",
            f"{points(each['gain'])} ({_p(each['p'])})",
            percent(each["harmed"]),
            points(each["worst"]),
            f"{each['error, more']:+.3f}",
        ]
        for _, each in own.iterrows()
    ]
    heads = ["recordings", "", "balanced accuracy", "less source only (p)", "harmed, %"]
    return markdown([*heads, "worst", "calibration error, less source only's"], rows)


def drawn(tables: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    """Return the figure by its name."""
    return {f"{NAME}.svg": render(lambda: _draw(tables["people"]), ".svg")[0]}


def _draw(people: pd.DataFrame) -> Figure:
    """Draw what each person gains by some methods on every data set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    several = figure.subplots(1, len(DATASETS), sharey=True)
    for axes, dataset in zip(several, DATASETS, strict=True):
        _draw_people(axes, people[people["dataset"] == dataset])
        axes.set_title(dataset, fontsize=8)
    several[0].set_ylabel("points over source only")
    return figure


def _draw_people(axes: Axes, people: pd.DataFrame) -> None:
    shown = {
        "source only, seeds averaged": "five seeds\naveraged",
        "uf-ama": "uf-ama",
        "chosen": "chosen on\nthe others",
    }
    generator = np.random.default_rng(0)
    for place, method in enumerate(shown):
        gains = 100 * people.loc[people["method"] == method, "gain"].to_numpy()
        spread = generator.uniform(-0.22, 0.22, len(gains))
        axes.plot(
            place + spread, gains, "o", color=COLOURS[place], markersize=2.6, alpha=0.7
        )
        axes.plot([place - 0.3, place + 0.3], [gains.mean()] * 2, color="black")
    axes.axhline(0, color="0.35", linewidth=0.9)
    axes.axhline(-5, color="0.35", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(shown)), list(shown.values()), fontsize=6, rotation=90)
    axes.grid(visible=True, axis="y")
