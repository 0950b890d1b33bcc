"""What could be done against harm: rules that adapt not everybody, and ensembles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from signs import FACTS, SIGNS
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from domainemo.statistics.paired import wilcoxon
from domainemo.statistics.several import holm

__all__ = [
    "ALWAYS",
    "AVERAGED",
    "BEST",
    "BOTH",
    "GATED",
    "HARM",
    "KNOWN",
    "NEVER",
    "RIDGE",
    "SEEDS",
    "TWO",
    "VOTES",
    "blends",
    "fixed",
    "gated",
    "learned",
    "ruled",
    "summary",
    "tested",
]

Values = NDArray[np.float64]

HARM = -0.05
"""A person who gains less than that is harmed."""
ALWAYS, NEVER, KNOWN = "always adapt", "never adapt", "adapt whom it helps (labels)"
BEST, RIDGE = "best sign, learned", "all signs, learned"
BOTH = "source only + adapted"
GATED = "source only + adapted, if no less like linear"
AVERAGED = ", seeds averaged"
TWO = "source only, two seeds averaged"
SEEDS = f"source only{AVERAGED}"
ONE_BY_ONE = "agreement with logistic regression, each seed by itself"
VOTES = "majority of source only, adapted and linear"


def blends(source: Values, adapted: Values, linear: Values) -> dict[str, Values]:
    """Return what ensembles of a network with and without adaptation predict.

    Of a majority, ties go to the highest mean probability.

    Parameters
    ----------
    source, adapted : ndarray, shape (seeds, windows, classes)
    linear : ndarray, shape (windows, classes)

    Returns
    -------
    dict of str to ndarray, shape (seeds or 1, windows, classes)
        For the majority no probabilities, but votes.
    """
    linear = np.broadcast_to(linear, adapted.shape)
    three = (source, adapted, linear)
    mean = sum(three) / 3
    one = np.eye(adapted.shape[-1])
    votes = sum(one[each.argmax(-1)] for each in three)
    found = {
        ALWAYS: adapted,
        BOTH: (source + adapted) / 2,
        "adapted + linear": (adapted + linear) / 2,
        "source only + adapted + linear": mean,
        VOTES: votes + mean / 10,
    }
    averaged = (ALWAYS, BOTH, "source only + adapted + linear")
    for name in averaged:
        shown = "adapted" if name == ALWAYS else name
        found[f"{shown}{AVERAGED}"] = found[name].mean(0, keepdims=True)
    return found


def fixed(
    source: Values, linear: Values, adapted: Mapping[str, Values], chosen: Iterable[str]
) -> dict[str, Values]:
    """Return what is predicted with no adapter to choose, and by many at once.

    Parameters
    ----------
    source : ndarray, shape (seeds, windows, classes)
    linear : ndarray, shape (windows, classes)
    adapted : mapping of str to ndarray, shape (seeds, windows, classes)
        By adapter.
    chosen : iterable of str
        Those that are averaged; as far as they are there.
    """
    ten = [adapted[name] for name in chosen if name in adapted]
    return {
        NEVER: source,
        "linear": linear[None],
        "source only + linear": (source + linear) / 2,
        TWO: np.stack([(a + b) / 2 for a, b in combinations(source, 2)]),
        SEEDS: source.mean(0, keepdims=True),
        "source only + linear, seeds averaged": ((source + linear) / 2).mean(
            0, keepdims=True
        ),
        "source only + ten adapters": sum(ten, start=source) / (len(ten) + 1),
        "source only + all adapters": sum(adapted.values(), start=source)
        / (len(adapted) + 1),
    }


def learned(rows: pd.DataFrame, sign: str) -> tuple[float, float]:
    """Return from which value of a sign on to adapt, and the mean gain of doing so.

    The threshold of the highest mean gain; data sets count alike. Of equal ones, that
    which adapts most. Infinite where it is best to adapt nobody.

    Parameters
    ----------
    rows : DataFrame
        With `dataset`, `gain` and the sign.
    sign : str
    """
    weight = _weights(rows)
    order = np.argsort(-rows[sign].to_numpy(), kind="stable")
    values = rows[sign].to_numpy()[order]
    total = np.cumsum((weight * rows["gain"].to_numpy())[order])
    last = np.append(values[1:] != values[:-1], True)
    ends, sums = values[last], total[last]
    best = len(sums) - 1 - int(np.argmax(sums[::-1]))
    if sums[best] < 0:
        return np.inf, 0.0
    return float(ends[best]), float(sums[best])


def _weights(rows: pd.DataFrame) -> Values:
    size = rows.groupby("dataset")["gain"].transform("size")
    found: Values = 1 / (size * rows["dataset"].nunique()).to_numpy(float)
    return found


def _by_all(train: pd.DataFrame, test: pd.DataFrame) -> NDArray[np.bool_]:
    """Return whom to adapt where ridge regression expects a gain from all signs."""
    model = make_pipeline(StandardScaler(), Ridge())
    weight = _weights(train) * len(train)
    model.fit(
        train[SIGNS].to_numpy(),
        train["gain"].to_numpy(),
        standardscaler__sample_weight=weight,
        ridge__sample_weight=weight,
    )
    expected = model.predict(test[SIGNS].to_numpy())
    found: NDArray[np.bool_] = expected >= 0
    return found


def ruled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what every rule gives everybody; what is learned, on the other data sets.

    Parameters
    ----------
    rows : DataFrame
        With `dataset`, `gain` and the signs; each row a person with an adapter around
        a network.

    Returns
    -------
    DataFrame
        The rows once for each `rule`, with its `gain`, whether it `adapts`, and the
        learned `sign` and `threshold`.
    """
    parts = []
    for dataset in rows["dataset"].unique():
        inside = rows["dataset"] == dataset
        train, test = rows[~inside], rows[inside]
        fitted = {sign: learned(train, sign) for sign in SIGNS}
        sign = max(SIGNS, key=lambda name: fitted[name][1])
        threshold = fitted[sign][0]
        whom = {
            ALWAYS: np.ones(len(test), bool),
            NEVER: np.zeros(len(test), bool),
            KNOWN: (test["gain"] > 0).to_numpy(),
            BEST: (test[sign] >= threshold).to_numpy(),
            RIDGE: _by_all(train, test),
            **{
                f"{what}: no less than source only": (
                    test[f"{fact}, rise"] >= 0
                ).to_numpy()
                for fact, what in FACTS.items()
            },
        }
        kept = test.drop(columns=SIGNS)
        for rule, adapts in whom.items():
            of = {"sign": sign, "threshold": threshold} if rule == BEST else {}
            gain = kept["gain"].where(adapts, 0.0)
            parts.append(kept.assign(rule=rule, adapts=adapts, gain=gain, **of))
        parts.append(_one_by_one(kept))
    return pd.concat(parts, ignore_index=True)


def _one_by_one(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what the rule gives that asks logistic regression about each seed."""
    seeds = [name for name in rows.columns if name.startswith("seed ")]
    adapts = np.stack([rows[f"linear, rise, {seed}"] >= 0 for seed in seeds], axis=1)
    gain = (rows[seeds].to_numpy() * adapts).mean(1)
    return rows.assign(rule=ONE_BY_ONE, adapts=adapts.mean(1), gain=gain)


def gated(ensembles: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the ensemble that has the adapted network only if a plain model agrees.

    Source only and adapted are averaged for people on whom the adapted network agrees
    with logistic regression no less than source only does; for others, source only.
    Of one seed, and with all seeds averaged.

    Parameters
    ----------
    ensembles : DataFrame
        With dataset, backbone, adapter, person, recipe, gain and error.
    rows : DataFrame
        With the first four and the signs.
    """
    where = ["dataset", "backbone", "person"]
    keys = [*where, "adapter"]
    parts = []
    for both, never in ((BOTH, NEVER), (f"{BOTH}{AVERAGED}", SEEDS)):
        base = ensembles[ensembles["recipe"] == never][[*where, "gain", "error"]]
        own = ensembles[ensembles["recipe"] == both]
        known = own.merge(base, on=where, suffixes=("", ", never"), validate="m:1")
        known = known.merge(rows[[*keys, "linear, rise"]], on=keys, validate="1:1")
        agrees = known["linear, rise"] >= 0
        for name in ("gain", "error"):
            known[name] = known[name].where(agrees, known[f"{name}, never"])
        known["recipe"] = both.replace(BOTH, GATED)
        parts.append(known[[*keys, "recipe", "gain", "error"]])
    return pd.concat(parts, ignore_index=True)


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """Return mean gain, share of the harmed and worst gain; data sets count alike.

    Parameters
    ----------
    rows : DataFrame
        With `dataset` and `gain`.
    """
    by = rows.groupby("dataset")["gain"]
    harmed = rows["gain"].lt(HARM).groupby(rows["dataset"]).mean()
    means = by.mean()
    return {
        **{f"gain, {name}": value for name, value in means.items()},
        "gain": means.mean(),
        **{f"harmed, {name}": value for name, value in harmed.items()},
        "harmed": harmed.mean(),
        "worst": rows["gain"].min(),
    }


def tested(rows: pd.DataFrame, by: str, against: str = NEVER) -> pd.DataFrame:
    """Return Wilcoxon's p of everything `by` a column names, paired over people.

    Everybody's mean over networks and adapters, less that of `against`; corrected by
    Holm.

    Parameters
    ----------
    rows : DataFrame
        With `dataset`, `person`, `gain` and the column.
    by : str
    against : str
        A value of the column.
    """
    people = rows.groupby([by, "dataset", "person"], sort=False)["gain"].mean()
    wide = people.unstack(by)
    names = [name for name in rows[by].unique() if name != against]
    gaps = wide[names].sub(wide[against], axis=0)
    p = [wilcoxon(gaps[name].to_numpy()) for name in names]
    return pd.DataFrame({"p": p, "corrected": holm(p)}, index=pd.Index(names, name=by))
