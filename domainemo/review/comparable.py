"""Whether finished runs can be compared: what is refused, and what must be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..core import TRIAL
from ..errors import ConfigurationError
from ..runs.folder import differing, flat
from ..runs.results import Results
from ..words import listed

__all__ = ["beside_recordings", "by_dataset", "check_comparable", "what_differs"]

# What decides who is trained and tested; a difference here is another question.
_SAME = {
    "protocol": "protocols",
    "excluded": "recordings left out",
    "classes": "classes",
    "calibration": "labels given for calibration",
    "target": "targets",
}


def by_dataset(runs: Mapping[str, Results]) -> dict[str, dict[str, Results]]:
    """Return the runs of each data set whose people were tested, under their names.

    That is the target's, where a run has one of its own: whatever it was trained on,
    its people are no others.
    """
    found: dict[str, dict[str, Results]] = {}
    for name, results in runs.items():
        found.setdefault(_tested(results), {})[name] = results
    return found


def _tested(results: Results) -> str:
    first = results.table.iloc[0]
    target = first.get("target")
    return str(target if isinstance(target, str) and target else first["dataset"])


def check_comparable(runs: Mapping[str, Results], level: str | None) -> None:
    """Refuse runs of one data set whose numbers answer different questions.

    Parameters
    ----------
    runs : mapping of str to Results
        Of one data set.
    level : str or None
        At which they are compared; None where each has its own.

    Raises
    ------
    ConfigurationError
        Naming two of them, and what is between them.
    """
    for name, results in runs.items():
        if not results.scored:
            raise ConfigurationError(
                f"{name}: this run is of people whose labels nobody knows; expected "
                f"runs with scores. Leave it out."
            )
    (first, one), *others = runs.items()
    for name, other in others:
        pair = f"{first} and {name} cannot be compared:"
        for column, noun in _SAME.items():
            ours, theirs = (_values(each, column) for each in (one, other))
            if ours != theirs:
                raise ConfigurationError(
                    f"{pair} their {noun} differ, {_said(ours)} there and "
                    f"{_said(theirs)} here. Run both alike."
                )
        _check_folds(pair, one, other)
        _check_trials(pair, one, other)
        if _is_oracle(one) != _is_oracle(other):
            raise ConfigurationError(
                f"{pair} in one of them the epoch was chosen by the target's labels "
                f"(ORACLE), in the other it was not. Choose it without in both, with "
                f"--validator."
            )
        if level is None and one.level != other.level:
            raise ConfigurationError(
                f"{pair} one predicts a {one.level}, the other a {other.level}. "
                f"Compare whole trials, with --level trial."
            )


def _values(results: Results, column: str) -> list[str]:
    """Return what a column of the table says; nothing where there is no such column."""
    if column not in results.table:
        return []
    return sorted({str(v) for v in results.table[column].dropna()} - {""})


def _said(values: Sequence[str]) -> str:
    return listed([repr(value) for value in values]) or "none"


def _check_folds(pair: str, one: Results, other: Results) -> None:
    ours, theirs = ({*each.table["fold"]} for each in (one, other))
    if ours != theirs:
        apart = sorted(ours ^ theirs)
        raise ConfigurationError(
            f"{pair} their folds differ, by {len(apart)}, such as {apart[0]!r}. Run "
            f"both on the same ones."
        )


def _check_trials(pair: str, one: Results, other: Results) -> None:
    """Refuse where not the very same trials, of the same labels, were tested."""
    truths = []
    for results in (one, other):
        rows = results.predictions[["fold", *TRIAL, "label"]].drop_duplicates()
        names = [name for name in results.predictions if str(name).startswith("p_")]
        labels = rows["label"].map(dict(enumerate(names)))
        truths.append({*map(tuple, rows.assign(label=labels).astype(str).to_numpy())})
    apart = sorted(truths[0] ^ truths[1])
    if apart:
        fold, subject, session, trial, _ = apart[0]
        raise ConfigurationError(
            f"{pair} they were tested on other recordings, or on other labels of them: "
            f"trial {trial} of subject {subject}, session {session}, in {fold} is not "
            f"the same in both. Run both on the same recordings."
        )


def _is_oracle(results: Results) -> bool:
    return bool(_of_networks(results)["target_seen"].str.contains("ORACLE").any())


def _of_networks(results: Results) -> pd.DataFrame:
    return results.table[~results.table["method"].isin(results.controls)]


def what_differs(runs: Mapping[str, Results]) -> list[str]:
    """Return in sentences what is to be known of runs, where it bears on them.

    Parameters
    ----------
    runs : mapping of str to Results
        That can be compared.
    """
    (first, one), *others = runs.items()
    found = [
        f"{name} differs from {first} in {listed(keys)}."
        for name, other in others
        if (keys := _differing(one, other))
    ]
    if _is_oracle(one):
        found.append(
            "ORACLE: the epochs were chosen by the target's labels, so that every "
            "number is higher than it can be for a new person."
        )
    if not others:
        seen = _of_networks(one).groupby("access", sort=False)["method"].unique()
        if len(seen) > 1:
            words = [f"{listed(list(each))} {what}" for what, each in seen.items()]
            found.append(f"Access to the target: {'; '.join(words)}.")
    access = {name: _main_access(each) for name, each in runs.items()}
    if len({*access.values()}) > 1:
        words = [f"{name} {what}" for name, what in access.items()]
        found.append(f"Access to the target: {'; '.join(words)}.")
    return found


def beside_recordings(first: str, one: Results, name: str, other: Results) -> list[str]:
    """Return in a sentence in what runs of two data sets differ, beside these.

    Parameters
    ----------
    first, name : str
        What the runs are called.
    one, other : Results
    """
    own = ("dataset", "recordings", "data", "target")
    keys = [key for key in _differing(one, other) if key.partition(".")[0] not in own]
    told = f"{name} differs from {first}, of another data set, in {listed(keys)}."
    return [told] if keys else []


def _main_access(results: Results) -> str:
    own = results.table[results.table["method"] == results.method]
    return " and ".join(map(str, own["access"].unique()))


def _differing(one: Results, other: Results) -> list[str]:
    """Return the configuration's keys in which two runs differ, and the version."""
    keys = differing(flat(one.description), flat(other.description))
    if _values(one, "version") != _values(other, "version"):
        keys.append("the version of domainemo")
    return keys
