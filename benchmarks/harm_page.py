"""Tables and figures of docs/harm-signs.md, made of the tables that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pages import TABLES, markdown
from remedies import ALWAYS, AVERAGED, BOTH, GATED, SEEDS
from signs import CHANGED, FACTS, INSIDE, SIGNS

from domainemo.reports.style import COLOURS, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ALL", "FEW", "NAME", "drawn", "kept", "rendered"]

NAME = "harm-signs"
ALL, FEW = "all adapters", "ten adapters"
DATASETS = ("eegmat", "esports", "ssvep-exo")
SHOWN = ("same adapter", "same person")
_SMALL = 0.001
_FULL = 10  # points at which a colour is full


def kept(folder: Path = TABLES / NAME) -> dict[str, pd.DataFrame]:
    """Return the tables that are kept, by name.

    Parameters
    ----------
    folder : Path
    """
    return {
        path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""])
        for path in sorted(folder.glob("*.csv"))
    }


def rendered(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return what stands in the page, as Markdown, by its mark.

    Parameters
    ----------
    tables : dict of str to DataFrame
        What :func:`kept` returns.
    """
    return {
        "harm-losses": _losses(tables["losses"]),
        "harm-spread": _spread(tables["spread"]),
        "harm-telling": _telling(tables["signs"]),
        "harm-inside": _inside(tables["inside"]),
        "harm-rules": _choices(tables["rules"], "rule", {"p, always": "p to always"}),
        "harm-chosen": _chosen(tables["rules"]),
        "harm-recipes": _choices(
            tables["recipes"],
            "recipe",
            {"p, always": "p to always", "p, seeds": "p to three of source only"},
        ),
        "harm-adapters": _adapters(tables["rules"], tables["recipes"]),
    }


def _losses(table: pd.DataFrame) -> str:
    places = list(table.columns[2:])
    rows = [
        [
            row["family"],
            str(row["adapters"]),
            *(_percent(row[each]) for each in places),
        ]
        for _, row in table.iterrows()
    ]
    return markdown(["family", "adapters", *places], rows)


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.0f}"


def _spread(table: pd.DataFrame) -> str:
    counts = {
        "harmed": "harmed",
        "cases": "of",
        "people harmed": "people harmed",
        "most": "most of one person",
    }
    shares = {
        "adapters": "between adapters, %",
        "people": "between people, %",
        "rest": "rest, %",
    }
    r = {
        "gain, seeds": "r of two seeds, person with adapter",
        "person, seeds": "r of two seeds, person",
        "person, networks": "r of two networks, person",
    }
    rows = [
        [
            row["group"],
            row["dataset"],
            *(f"{row[each]:.0f}" for each in counts),
            *(_percent(row[each]) for each in shares),
            *(f"{row[each]:+.2f}" for each in r),
        ]
        for _, row in table.iterrows()
    ]
    return markdown(
        ["", "data set", *counts.values(), *shares.values(), *r.values()], rows
    )


def called(sign: str) -> str:
    """Return what a sign is called."""
    if sign == CHANGED:
        return "share of windows that adaptation changed (high)"
    if sign in INSIDE:
        return INSIDE[sign]
    fact, where = sign.split(", ")
    return f"{FACTS[fact]}: {where}"


def _telling(table: pd.DataFrame) -> str:
    """Return a row for each sign, that first which tells most of people."""
    wide = table.set_index(["sign", "group", "view"])
    key = [(sign, FEW, SHOWN[0]) for sign in SIGNS]
    order = wide.loc[key, "auroc"].sort_values(ascending=False, kind="stable")
    rows = []
    for sign, _, _ in order.index:
        own = wide.loc[(sign, FEW, SHOWN[0])]
        cells = [
            _interval(wide.loc[(sign, group, view)])
            for group in (FEW, ALL)
            for view in SHOWN
        ]
        sets = " / ".join(f"{own[name]:.2f}" for name in DATASETS)
        rank = f"{own['rank correlation']:+.2f}"
        rows.append([called(sign), cells[0], sets, rank, *cells[1:]])
    heads = [
        "low value of",
        f"{FEW}, {SHOWN[0]}",
        "the same on " + " / ".join(DATASETS),
        "rank correlation with gain",
        f"{FEW}, {SHOWN[1]}",
        *(f"{ALL}, {view}" for view in SHOWN),
    ]
    return markdown(heads, rows)


def _inside(table: pd.DataFrame) -> str:
    """Return a row for each sign from inside."""
    wide = table.set_index(["sign", "group"])
    rows = []
    for sign in INSIDE:
        own, total = (wide.loc[(sign, group)] for group in (FEW, ALL))
        every, helped = (
            pd.Series(dict(zip(("auroc", "low", "high"), own[names], strict=True)))
            for names in (
                ["auroc", "low, all signs", "high, all signs"],
                ["helped", "helped, low", "helped, high"],
            )
        )
        sets = " / ".join(f"{own[name]:.2f}" for name in DATASETS)
        rank = f"{own['rank correlation']:+.2f}"
        first, wider, gained, last = map(_interval, (own, every, helped, total))
        rows.append([called(sign), first, wider, sets, rank, gained, last])
    heads = [
        "low value of",
        f"{FEW}, {SHOWN[0]}",
        f"with the interval of all {len(SIGNS) + len(INSIDE)} signs",
        "the same on " + " / ".join(DATASETS),
        "rank correlation with gain",
        "of gaining more than 5 points",
        f"{ALL}, {SHOWN[0]}",
    ]
    return markdown(heads, rows)


def _interval(row: pd.Series) -> str:
    if row["low"] == row["high"]:  # the same for every adapter
        return "-"
    bold = "**" * bool(row["low"] > 0.5 or row["high"] < 0.5)
    return f"{bold}{row['auroc']:.2f}{bold} [{row['low']:.2f}, {row['high']:.2f}]"


def _choices(table: pd.DataFrame, name: str, tests: dict[str, str]) -> str:
    few, every = (table[table["group"] == group] for group in (FEW, ALL))
    every = every.set_index(name)
    share = {"adapted": "adapted, %"} if "adapted" in table else {}
    error = {"error": "calibration error"} if "error" in table else {}
    rows = []
    for _, row in few.iterrows():
        total = every.loc[row[name]]
        rows.append(
            [
                row[name],
                *(f"{100 * row[each]:.0f}" for each in share),
                *(_points(row[f"gain, {each}"]) for each in DATASETS),
                _points(row["gain"]),
                _harmed(row),
                _points(row["worst"]),
                *("-" if np.isnan(row[each]) else f"{row[each]:.3f}" for each in error),
                *(_p(row[each]) for each in ("p", *tests)),
                _points(total["gain"]),
                _harmed(total),
                _points(total["worst"]),
            ]
        )
    heads = [
        "",
        *share.values(),
        *DATASETS,
        "mean gain",
        "harmed, %",
        "worst",
        *error.values(),
        "p",
        *tests.values(),
        f"{ALL}: gain",
        "harmed, %",
        "worst",
    ]
    return markdown(heads, rows)


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0:+.1f}"


def _harmed(row: pd.Series) -> str:
    share = 100 * row["harmed"]
    return "<0.1" if 0 < share < 0.05 else f"{share:.1f}"


def _p(value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.2g}" if value >= _SMALL else f"<{_SMALL}"


def _chosen(table: pd.DataFrame) -> str:
    rows = table[table["chosen"].notna() & table["group"].isin((ALL, FEW))]
    cells = []
    for _, row in rows.iterrows():
        by = dict(each.split(": ") for each in row["chosen"].split("; "))
        cells.append([row["group"], *(_readable(by[name]) for name in DATASETS)])
    return markdown(["", *(f"for {name}" for name in DATASETS)], cells)


def _readable(choice: str) -> str:
    sign, threshold = choice.split(" >= ")
    return f"{called(sign)} >= {round(float(threshold), 2) + 0:.2f}"


def _adapters(rules: pd.DataFrame, recipes: pd.DataFrame) -> str:
    """Return a row for each of the ten adapters: gain, share of the harmed, worst."""
    asked = f"{FACTS['linear']}: no less than source only"
    each, careful = (f"{name}{AVERAGED}" for name in (BOTH, GATED))
    wanted = [
        (rules, "rule", ALWAYS, ALWAYS),
        (rules, "rule", asked, "if no less like linear"),
        (recipes, "recipe", BOTH, BOTH),
        (recipes, "recipe", GATED, GATED),
        (recipes, "recipe", each, each),
        (recipes, "recipe", careful, "the same, if no less like linear"),
    ]
    names = [name for name in rules["group"].unique() if name not in (ALL, FEW)]
    rows = []
    for name in names:
        cells = []
        for table, column, value, _ in wanted:
            one = table[(table["group"] == name) & (table[column] == value)].iloc[0]
            cells.append(
                f"{_points(one['gain'])}, {_harmed(one)} %, {_points(one['worst'])}"
            )
        rows.append([name, *cells])
    base = recipes[(recipes["group"] == FEW) & (recipes["recipe"] == SEEDS)].iloc[0]
    shown = f"{_points(base['gain'])}, {_harmed(base)} %, {_points(base['worst'])}"
    rows.append(["*source only*", "+0.0, 0.0 %, +0.0", "-", "-", "-", shown, "-"])
    return markdown(["adapter", *(head for *_, head in wanted)], rows)


def drawn(tables: dict[str, pd.DataFrame]) -> dict[str, bytes]:
    """Return the page's figures, by the name of their file.

    Parameters
    ----------
    tables : dict of str to DataFrame
        What :func:`kept` returns.
    """
    return {
        f"{NAME}-people.svg": render(lambda: _draw_people(tables["people"]), ".svg")[0],
        f"{NAME}.svg": render(lambda: _draw_signs(tables), ".svg")[0],
    }


def _draw_people(table: pd.DataFrame) -> Figure:
    """Draw everybody's gain by each adapter, people by their mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 10.5), layout="constrained")
    values = table.set_index("adapter").drop(columns="family")
    sets = [
        values.loc[:, [name.startswith(f"{dataset} ") for name in values.columns]]
        for dataset in DATASETS
    ]
    several = figure.subplots(
        1, 3, sharey=True, width_ratios=[own.shape[1] for own in sets]
    )
    for axes, dataset, own in zip(several, DATASETS, sets, strict=True):
        own = own[own.median().sort_values(kind="stable").index]
        image = axes.imshow(own, cmap="RdBu", vmin=-_FULL, vmax=_FULL, aspect="auto")
        names = [name.removeprefix(f"{dataset} ") for name in own.columns]
        axes.set_xticks(range(len(names)), names, fontsize=5.5)
        axes.set_title(dataset)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        family = table["family"].to_list()
        for row in range(1, len(family)):
            if family[row] != family[row - 1]:
                axes.axhline(row - 0.5, color="black", linewidth=0.7)
    several[0].set_yticks(range(len(values)), values.index, fontsize=5.5)
    _families(several[-1], table["family"])
    several[0].set_xlabel("people, by the median of their gains", loc="left")
    figure.colorbar(
        image,
        ax=several,
        location="bottom",
        shrink=0.4,
        aspect=40,
        extend="both",
        label="points of balanced accuracy over source only, mean over networks",
    )
    return figure


def _families(axes: Axes, family: pd.Series) -> None:
    """Name families on the right."""
    places = pd.Series(range(len(family)), index=family).groupby(level=0, sort=False)
    middle = places.mean()
    right = axes.secondary_yaxis("right")
    right.set_yticks(middle.to_list(), middle.index.to_list(), fontsize=6.5)
    right.tick_params(length=0)


def _draw_signs(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw how well signs tell, and what rules and ensembles give."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.8, 5.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[2.4, 1.2, 1.2])
    _draw_telling(left, tables["signs"])
    _draw_choices(middle, right, tables)
    return figure


def _draw_telling(axes: Axes, table: pd.DataFrame) -> None:
    wide = table.set_index(["group", "view", "sign"]).sort_index()
    first = wide.loc[(FEW, SHOWN[0])]["auroc"]
    order = first.loc[SIGNS].sort_values(kind="stable").index
    for number, (view, marker) in enumerate(zip(SHOWN, "os", strict=True)):
        own = wide.loc[(FEW, view)].loc[order]
        there = (own["low"] < own["high"]).to_numpy()
        rows = np.arange(len(own))[there] + 0.16 - 0.32 * number
        own = own[there]
        axes.errorbar(
            own["auroc"],
            rows,
            xerr=[
                (own["auroc"] - own["low"]).clip(lower=0),
                (own["high"] - own["auroc"]).clip(lower=0),
            ],
            fmt=marker,
            color=COLOURS[number],
            linewidth=0.9,
            markersize=3.5,
            label=f"of two {'people' if number == 0 else 'adapters'} with the {view}",
        )
    axes.axvline(0.5, color="0.35", linewidth=0.9, linestyle="--")
    axes.set_yticks(range(len(order)), [called(sign) for sign in order], fontsize=6.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("AUROC of harm, ten adapters")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1, fontsize=6.5)


def _draw_choices(left: Axes, right: Axes, tables: dict[str, pd.DataFrame]) -> None:
    """Draw the share of the harmed and the gain of every rule and ensemble."""
    parts = []
    for name, column in (("rules", "rule"), ("recipes", "recipe")):
        table = tables[name][tables[name]["group"] == FEW]
        parts.append(table.assign(called=table[column], kind=name))
    rows = pd.concat(parts).drop_duplicates("called").iloc[::-1]
    places = np.arange(len(rows))
    colours = [COLOURS[kind == "recipes"] for kind in rows["kind"]]
    for axes, column in ((left, "harmed"), (right, "gain")):
        axes.barh(places, 100 * rows[column], color=colours, height=0.65)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(visible=True, axis="x")
    names = [
        name.replace(": no less than source only", ", no less")
        for name in rows["called"]
    ]
    left.set_yticks(places, names, fontsize=6.5)
    right.set_yticks([])
    right.axvline(0, color="0.35", linewidth=0.9)
    left.set_title("harmed, %", fontsize=8)
    right.set_title("gain, points", fontsize=8)
