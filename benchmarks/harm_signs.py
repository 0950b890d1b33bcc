"""Whom adaptation harms, what could have told so without labels, and what helps.

    domainemo benchmark benchmarks/methods.toml --data-root DATA --output OUTPUT
    python benchmarks/inside.py OUTPUT INSIDE --data-root DATA
    python benchmarks/harm_signs.py OUTPUT [--inside INSIDE/inside.csv] [--page]

Reads the predictions in OUTPUT; nothing is trained. Signs are made of what was read
without labels (`predicted.py`, `signs.py`); labels come in afterwards, to say what each
person gained over source only of the same network, the mean over seeds. Prints the
tables of docs/harm-signs.md; `--page` keeps them in docs/tables/harm-signs and writes
page and figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from harm_page import ALL, FEW, NAME, drawn, kept, rendered
from matrix import families
from numpy.typing import NDArray
from pages import write_page
from predicted import (
    SOURCE,
    Place,
    balanced_accuracy,
    calibration_errors,
    labels_of,
    read,
)
from remedies import (
    ALWAYS,
    HARM,
    NEVER,
    SEEDS,
    VOTES,
    blends,
    fixed,
    gated,
    ruled,
    summary,
    tested,
)
from signs import DECIMALS, INSIDE, SIGNS, like_linear, pairs, signs

Values = NDArray[np.float64]

# Named before anything was looked at: those that people use.
TEN = (
    "uf-ama",
    "deep-coral",
    "dan",
    "dann",
    "cdan",
    "mcd",
    "mcc",
    "bnm",
    "shot",
    "tent",
)
PLACE = ["dataset", "backbone"]
DRAWS = 4000
LEVEL = 0.05  # all signs together are wrong in one of twenty cases
VIEWS = ("any pair", "same adapter", "same person")
NONE = "(none)"


def adapters(place: Place) -> list[str]:
    """Return the adapters of a place."""
    return [name for name in place.predicted if name != SOURCE]


def signs_of(place: Place) -> pd.DataFrame:
    """Return a row of signs for each adapter and person of a place; no labels."""
    names = adapters(place)
    total = sum(place.predicted[name] for name in names)
    found = {
        name: signs(
            place.windows,
            place.predicted[name],
            place.predicted[SOURCE],
            place.linear,
            (total - place.predicted[name]) / max(len(names) - 1, 1),
        )
        for name in names
    }
    for name, own in found.items():  # what a rule needs that has one seed
        one, base = (
            like_linear(place.windows, place.predicted[each], place.linear)
            for each in (name, SOURCE)
        )
        for seed, rise in enumerate(one - base):
            own[f"linear, rise, seed {seed}"] = rise.round(DECIMALS)
    return pd.concat(found, names=["adapter", "person"]).reset_index()


def gains_of(place: Place, labels: NDArray[np.int64]) -> pd.DataFrame:
    """Return what each person gains by each adapter of a place, in the same order."""
    people, codes = np.unique(place.windows["subject"], return_inverse=True)

    def scored(name: str) -> Values:
        return balanced_accuracy(place.predicted[name].argmax(-1), labels, codes)

    base = scored(SOURCE)
    rows = []
    for name in adapters(place):
        gain = (scored(name) - base).round(DECIMALS)
        own = pd.DataFrame(gain.T, columns=[f"seed {n}" for n in range(len(gain))])
        rows.append(
            own.assign(adapter=name, person=people, gain=gain.mean(0).round(DECIMALS))
        )
    return pd.concat(rows, ignore_index=True)


def ensembles_of(place: Place, labels: NDArray[np.int64]) -> pd.DataFrame:
    """Return what each person gains by each ensemble, and its calibration error."""
    people, codes = np.unique(place.windows["subject"], return_inverse=True)
    source = place.predicted[SOURCE]
    base = balanced_accuracy(source.argmax(-1), labels, codes).mean(0)

    def rows(adapter: str, found: Mapping[str, Values]) -> Iterator[pd.DataFrame]:
        for name, values in found.items():
            score = balanced_accuracy(values.argmax(-1), labels, codes).mean(0)
            if name == VOTES:
                error = np.full(len(people), np.nan)
            else:
                error = calibration_errors(values, labels, codes).mean(0)
            yield pd.DataFrame(
                {
                    "adapter": adapter,
                    "recipe": name,
                    "person": people,
                    "gain": (score - base).round(DECIMALS),
                    "error": error,
                }
            )

    own = {name: place.predicted[name] for name in adapters(place)}
    parts = list(rows(NONE, fixed(source, place.linear, own, TEN)))
    for name, adapted in own.items():
        parts.extend(rows(name, blends(source, adapted, place.linear)))
    return pd.concat(parts, ignore_index=True)


def study(output: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return signs with gains, and ensembles, of every place, adapter and person."""
    found: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for place in read(output):
        own = signs_of(place)  # before any label is read
        labels = labels_of(output, place.dataset, place.windows)
        gains = gains_of(place, labels)
        where = {"dataset": place.dataset, "backbone": place.backbone}
        joined = own.merge(gains, on=["adapter", "person"], validate="1:1")
        found[0].append(joined.assign(**where))
        found[1].append(ensembles_of(place, labels).assign(**where))
        print(f"read: {place.dataset}, {place.backbone}", flush=True)
    signed, blended = (pd.concat(each, ignore_index=True) for each in found)
    return signed, blended


def _family() -> Callable[[str], str]:
    known = families()
    theirs = "pytorch-adapt"
    return lambda name: theirs if name.startswith(theirs) else known.get(name, "other")


def losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Return which share of people with adapters is harmed, by family and place."""
    named = rows.assign(family=rows["adapter"].map(_family()))
    few = rows[rows["adapter"].isin(TEN)].assign(family=FEW)
    harmed = pd.concat([named, rows.assign(family=ALL), few])
    harmed["harmed"] = harmed["gain"] < HARM
    wide = harmed.pivot_table(index="family", columns=PLACE, values="harmed")
    wide.columns = [", ".join(each) for each in wide.columns]
    wide.insert(0, "adapters", harmed.groupby("family")["adapter"].nunique())
    first = [ALL, FEW]
    return wide.loc[[*first, *wide.index.difference(first)]].reset_index()


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Return where gains differ: between adapters, between people, or by chance.

    Shares of the sum of squares of a table of adapters and people; and correlations of
    gains, each less its adapter's mean, between two seeds, and of a person's mean
    between two seeds and two networks. Adapters that are not at every place are left
    out.
    """
    found = []
    for group, own in (
        (ALL, rows),
        (FEW, rows[rows["adapter"].isin(TEN)]),
    ):
        for dataset, there in own.groupby("dataset", sort=False):
            counts = there.groupby("adapter")["backbone"].nunique()
            whole = counts.index[counts == there["backbone"].nunique()]
            there = there[there["adapter"].isin(whole)]
            tables = [
                one.pivot(index="person", columns="adapter", values="gain")
                for _, one in there.groupby("backbone")
            ]
            shares = np.mean([_squares(table.to_numpy()) for table in tables], axis=0)
            means = pd.concat([table.mean(axis=1) for table in tables], axis=1)
            harmed = (there["gain"] < HARM).groupby(there["person"]).sum()
            found.append(
                {
                    "group": group,
                    "dataset": dataset,
                    "harmed": harmed.sum(),
                    "cases": len(there),
                    "people harmed": (harmed > 0).sum(),
                    "most": harmed.max(),
                    **dict(zip(("adapters", "people", "rest"), shares, strict=True)),
                    **_repeated(there),
                    "person, networks": _correlation(means),
                }
            )
    return pd.DataFrame(found)


def _squares(table: Values) -> tuple[float, float, float]:
    """Return shares of squares between columns, between rows, and of the rest."""
    middle = table - table.mean()
    total = (middle**2).sum()
    columns = (middle.mean(0) ** 2).sum() * len(table) / total
    rows = (middle.mean(1) ** 2).sum() * table.shape[1] / total
    return float(columns), float(rows), float(1 - columns - rows)


def _repeated(rows: pd.DataFrame) -> dict[str, float]:
    """Return what two seeds have in common, the mean over networks."""
    seeds = [name for name in rows.columns if name.startswith("seed ")]
    each, people = [], []
    for _, own in rows.groupby("backbone"):
        centred = own[seeds] - own.groupby("adapter")[seeds].transform("mean")
        each.append(_correlation(centred))
        people.append(_correlation(centred.groupby(own["person"]).mean()))
    return {"gain, seeds": np.mean(each), "person, seeds": np.mean(people)}


def _correlation(columns: pd.DataFrame) -> float:
    """Return the mean correlation of two columns."""
    r = columns.corr().to_numpy()
    return float(np.mean([r[pair] for pair in combinations(range(len(r)), 2)]))


def telling(
    rows: pd.DataFrame, names: Sequence[str] = SIGNS, number: int | None = None
) -> pd.DataFrame:
    """Return how well signs tell the harmed from others: AUROC, with intervals.

    At each place the share of pairs, of one harmed and one not, in which the harmed has
    the lower value: of any people and adapters, of people with the same adapter, or of
    adapters with the same person; then the mean over places. Intervals are percentiles
    of a bootstrap over people, of each data set by themselves, and hold for all signs
    of a view together (Bonferroni), or for as many as are said.
    """
    level = LEVEL / (number or len(names))
    draws = {}
    for dataset, own in rows.groupby("dataset"):
        number = own["person"].nunique()
        generator = np.random.default_rng(0)
        draws[dataset] = generator.multinomial(
            number, np.full(number, 1 / number), DRAWS
        )
    found = []
    for group, own in ((ALL, rows), (FEW, rows[rows["adapter"].isin(TEN)])):
        for sign in names:
            found.extend(_told(own, sign, draws, group, level))
    return pd.DataFrame(found)


def telling_inside(rows: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """Return how well what source only shows from inside tells, of the same adapter.

    Intervals hold for these signs together, and, by other names, for all there are.
    `helped` is how well a low value tells whom adaptation helps, by as much as makes
    harm.

    Parameters
    ----------
    rows : DataFrame
        With everybody's gains.
    shown : DataFrame
        The signs of `INSIDE` for each data set, network and person.

    Raises
    ------
    SystemExit
        If they are not there for everybody.
    """
    keys = [*PLACE, "person"]
    gains = rows[["adapter", *keys, "gain"]]
    signed = gains.merge(shown[[*keys, *INSIDE]], how="left", on=keys, validate="m:1")
    lacking = signed.loc[signed[[*INSIDE]].isna().any(axis=1), keys]
    if len(lacking):
        first = ", ".join(map(str, lacking.iloc[0]))
        raise SystemExit(
            f"no signs from inside for {len(lacking.drop_duplicates())} people, such "
            f"as {first}; make them of the same output with benchmarks/inside.py"
        )
    signed, names = signed.round(dict.fromkeys(INSIDE, DECIMALS)), list(INSIDE)
    found = telling(signed, names)
    every = telling(signed, names, len(SIGNS) + len(names))
    helped = telling(signed.assign(gain=-signed["gain"]), names)
    found[["low, all signs", "high, all signs"]] = every[["low", "high"]]
    found[["helped", "helped, low", "helped, high"]] = helped[["auroc", "low", "high"]]
    return found[found["view"] == "same adapter"]


def _told(
    rows: pd.DataFrame,
    sign: str,
    draws: Mapping[str, NDArray[np.int64]],
    group: str,
    level: float,
) -> Iterator[dict[str, object]]:
    areas: dict[str, list[Values]] = {view: [] for view in VIEWS}
    names = []
    for (dataset, _), own in rows.groupby(PLACE, sort=False):
        tables = own.pivot(index="person", columns="adapter", values=[sign, "gain"])
        anyone, same = pairs(tables[sign].to_numpy(), tables["gain"].to_numpy() < HARM)
        counts = draws[str(dataset)]
        weight = np.vstack([np.ones(counts.shape[1]), counts])
        diagonal = [np.diag(np.diag(each)) for each in anyone]
        for view, both in zip(VIEWS, (anyone, same, diagonal), strict=True):
            areas[view].append(_area(weight, *both))
        names.append(dataset)
    rank = _ranked(rows, sign)
    for view, values in areas.items():
        by = pd.DataFrame(values, index=names)
        mean = by.mean().to_numpy()
        low, high = np.nanquantile(mean[1:], [level / 2, 1 - level / 2])
        yield {
            "group": group,
            "sign": sign,
            "view": view,
            "auroc": mean[0],
            "low": low,
            "high": high,
            **by[0].groupby(level=0, sort=False).mean().to_dict(),
            "rank correlation": rank.get(view, np.nan),
        }


def _area(weight: Values, won: Values, there: Values) -> Values:
    """Return the share of pairs that is won, for every weighting of people."""
    total = ((weight @ there) * weight).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Values = ((weight @ won) * weight).sum(1) / total
    return found


def _ranked(rows: pd.DataFrame, sign: str) -> dict[str, float]:
    """Return Spearman's correlation with the gain, the mean over places or adapters."""

    def mean(by: list[str]) -> float:
        ranks = rows.groupby(by)[[sign, "gain"]].rank()
        ranks -= ranks.groupby([rows[name] for name in by]).transform("mean")
        ranks["both"] = ranks[sign] * ranks["gain"]
        squares = ranks.assign(**{each: ranks[each] ** 2 for each in (sign, "gain")})
        sums = squares.groupby([rows[name] for name in by]).sum()
        scale = np.sqrt(sums[sign] * sums["gain"])
        return float((sums["both"] / scale.where(scale > 0)).mean())

    return {
        "any pair": mean(PLACE),
        "same adapter": mean([*PLACE, "adapter"]),
        "same person": mean([*PLACE, "person"]),
    }


def rules(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what every rule gives, to all adapters, to ten, and to each of these."""
    found = []
    few = rows[rows["adapter"].isin(TEN)]
    for group, own in ((ALL, rows), (FEW, few)):
        after = ruled(own)
        found.append(_rule_rows(after, group))
        if group == FEW:
            for name in TEN:
                found.append(_rule_rows(after[after["adapter"] == name], name))
    return pd.concat(found, ignore_index=True)


def _rule_rows(after: pd.DataFrame, group: str) -> pd.DataFrame:
    p = tested(after, "rule")
    better = tested(after, "rule", ALWAYS)
    found = []
    for rule, own in after.groupby("rule", sort=False):
        chosen = own.dropna(subset=["sign"]) if "sign" in own else own.iloc[:0]
        sign = {
            str(dataset): f"{sign} >= {threshold:.3f}"
            for (dataset, sign, threshold), _ in chosen.groupby(
                ["dataset", "sign", "threshold"], sort=False
            )
        }
        found.append(
            {
                "group": group,
                "rule": rule,
                "adapted": own.groupby("dataset")["adapts"].mean().mean(),
                **summary(own),
                "p": p["corrected"].get(rule, np.nan),
                "p, always": better["corrected"].get(rule, np.nan),
                "chosen": "; ".join(f"{k}: {v}" for k, v in sign.items()),
            }
        )
    return pd.DataFrame(found)


def recipes(ensembles: pd.DataFrame, signed: pd.DataFrame) -> pd.DataFrame:
    """Return what every ensemble gives: of all adapters, of ten, of each of these."""
    rows = pd.concat([ensembles, gated(ensembles, signed)], ignore_index=True)
    plain = rows[rows["adapter"] == NONE]
    found = []
    groups = {ALL: rows["adapter"].unique(), FEW: TEN, **{name: [name] for name in TEN}}
    for group, names in groups.items():
        own = pd.concat([plain, rows[rows["adapter"].isin({*names} - {NONE})]])
        p, better, of = (tested(own, "recipe", b) for b in (NEVER, ALWAYS, SEEDS))
        for recipe, each in own.groupby("recipe", sort=False):
            error = each.groupby("dataset")["error"].mean().mean()
            found.append(
                {
                    "group": group,
                    "recipe": recipe,
                    **summary(each),
                    "error": error,
                    "p": p["corrected"].get(recipe, np.nan),
                    "p, always": better["corrected"].get(recipe, np.nan),
                    "p, seeds": of["corrected"].get(recipe, np.nan),
                }
            )
    return pd.DataFrame(found)


def people(rows: pd.DataFrame) -> pd.DataFrame:
    """Return everybody's gain by each adapter in points, the mean over networks."""
    means = rows.groupby(["adapter", "dataset", "person"])["gain"].mean() * 100
    wide = means.unstack(["dataset", "person"]).sort_index(axis=1)
    wide.columns = [f"{dataset} {person}" for dataset, person in wide.columns]
    wide.insert(0, "family", wide.index.map(_family()))
    return wide.sort_values(["family", "adapter"]).reset_index()


def tables_of(signed: pd.DataFrame, blended: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables that are kept, by name."""
    return {
        "losses": losses(signed),
        "spread": spread(signed),
        "signs": telling(signed),
        "rules": rules(signed),
        "recipes": recipes(blended, signed),
        "people": people(signed),
    }


def main() -> None:
    """Print the tables, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path, help="of `domainemo benchmark`")
    parser.add_argument("--inside", type=Path, help="table of benchmarks/inside.py")
    parser.add_argument("--page", action="store_true", help="write page and figures")
    chosen = parser.parse_args()
    signed, blended = study(chosen.output)
    made = tables_of(signed, blended)
    if chosen.inside:
        made["inside"] = telling_inside(signed, pd.read_csv(chosen.inside))
    if chosen.page:
        write_page(NAME, made, kept, rendered, drawn, {"people": "%.1f"})
        return
    for name, table in made.items():
        print(f"\n{name}\n", table.to_string(index=False), sep="\n")


if __name__ == "__main__":
    main()
