"""Which of several finished runs would be chosen, without a label of the target.

Of a run's folder nothing is opened but its configuration, what it was begun with, and
what each training left: its record, where every validator's score stands, and which
classes it predicts. The tables, in which labels stand beside predictions, are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..choices import SELECTED_BY
from ..core import Validator
from ..errors import ConfigurationError, did_you_mean
from ..registry import find
from ..runs.experiment import SOURCE_ONLY, method_name
from ..runs.folder import ENVIRONMENT, differing, flat, read_json, read_stored_config
from ..runs.model import find_all_trained
from ..runs.record import Record, load_record
from ..statistics.ties import tied
from ..validators.comparing import all_sound, comparison
from ..values import check_folders
from ..words import count, in_order, listed

__all__ = ["Selected", "select"]

_SAME = ("protocol", "calibration", "calibration_use", "target", "classes", "merge")
"""Choices that decide who is tested and what is known of them."""

Place = tuple[str, int]
"""A fold and a seed."""


@dataclass(frozen=True)
class Selected:
    """What would be chosen among finished runs, and by which score.

    Attributes
    ----------
    validator : str
    run, method : str
        What would be chosen: a run, and its method or its source only.
    choices : DataFrame
        A row per run and method, the best first: ``run``, ``method``, ``score`` (by
        which it is chosen, mean over folds and seeds), ``alone`` (the validator's score
        of each network by itself), ``sound`` (whether it predicts all classes, and the
        source better than chance) and ``seconds`` (of the validator).
    folds : DataFrame
        A row per fold: what would be chosen for it alone (``run``, ``method``), by
        nothing that another fold has seen, and every choice's score.
    """

    validator: str
    run: str
    method: str
    choices: pd.DataFrame
    folds: pd.DataFrame

    @property
    def adapts(self) -> bool:
        """Whether what would be chosen adapts at all."""
        return self.method != SOURCE_ONLY

    def sentences(self) -> list[str]:
        """Return in words what would be chosen, and what is to be known of it."""
        best, others = self.choices.iloc[0], self.choices.iloc[1:]
        rest = others[others["sound"]] if best["sound"] else others
        said = [
            f"{self.validator} would choose {self.method} of {self.run}, with a score "
            f"of {best['score']:.3f}"
            + (f"; the next one has {rest['score'].iloc[0]:.3f}." if len(rest) else ".")
        ]
        if not self.adapts:
            said.append("That is not to adapt.")
        unsound = self.choices[~self.choices["sound"]]
        if len(unsound) == len(self.choices):
            said.append(
                "None of them predicts all classes and the source better than chance: "
                "do not rely on any."
            )
        elif len(unsound):
            names = [f"{r.method} of {r.run}" for r in unsound.itertuples()]
            said.append(
                f"Set behind the others, as they leave out a class or predict the "
                f"source no better than chance: {listed(names)}."
            )
        said.append(
            "No label of the target was opened; whether it is the best of them nobody "
            "can tell without."
        )
        if len(self.folds) > 1:
            said.append(
                f"That is over {count(len(self.folds), 'fold')}: where one tests whom "
                f"another trains on, the scores of that other one, and so this choice, "
                f"know their labels. What each fold would choose alone does not."
            )
        return said

    def record(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "validator": self.validator,
            "run": self.run,
            "method": self.method,
            "choices": _rows(self.choices),
            "folds": _rows(self.folds),
        }


@dataclass
class _Choice:
    """One method of one run, fold by fold."""

    run: str
    method: str
    described: Mapping[str, Any]
    records: dict[Place, Record] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.run}: {self.method}"

    def said(self, place: Place, validator: str) -> Mapping[str, Any]:
        """Return what the record says of a validator."""
        told: Mapping[str, Any] = self.records[place].facts.get("scores", {})
        if validator not in told:
            raise ConfigurationError(
                f"{self.run}: its records have no score by {validator!r} of "
                f"{self.method}, {place[0]}.{did_you_mean(validator, told)} Expected "
                f"one of {', '.join(told) or 'none, as an earlier version made it'}. "
                f"Choose another validator, or run it again with --validator "
                f"{validator}."
            )
        found: Mapping[str, Any] = told[validator]
        return found

    def evidence(self, place: Place, validator: str) -> Sequence[float] | None:
        """Return what the validator compares this network by; None if it had none."""
        said = self.said(place, validator)
        if "evidence" in said:
            return list(said["evidence"])
        return None if said["score"] is None else [float(said["score"])]

    def alone(self, validator: str) -> float:
        """Return the validator's mean score of each network by itself."""
        scores = [self.said(place, validator)["score"] for place in self.records]
        known = [score for score in scores if score is not None]
        return float(np.mean(known)) if len(known) == len(scores) else -math.inf

    def seconds(self, validator: str) -> float:
        """Return what the validator took of all."""
        return float(sum(self.said(p, validator)["seconds"] for p in self.records))

    def sound(self, fold: str | None = None) -> bool:
        """Whether it has not collapsed, over all folds together or in one alone."""
        records = [
            record
            for (name, _), record in self.records.items()
            if fold is None or name == fold
        ]
        predicted = {label for record in records for label in record.predicted}
        held_out = [record.facts.get("held_out") for record in records]
        classes = records[0].probabilities.shape[1]
        return all_sound(predicted, held_out, classes)


def select(*runs: str | Path, validator: str = SELECTED_BY) -> Selected:
    """Say which method of finished runs would be chosen, without opening a label.

    Networks are compared fold by fold and seed by seed, and the mean counts. Methods
    that leave out a class over all folds, or predict held-out source people no better
    than chance, stand behind the others. Source only, which does not adapt, is always
    among the choices.

    Where one fold tests whom another trains on, as with one person left out at a time,
    that mean knows the labels of who is tested, as those of another fold's source. What
    is chosen for each fold alone knows its own source's labels and no others.

    Parameters
    ----------
    *runs : path
        Folders of finished runs on the same folds; one is enough, whose method is
        compared with its source only.
    validator : str
        Whose scores, which stand in the runs' records, are compared.

    Returns
    -------
    Selected

    Raises
    ------
    ConfigurationError
        If the runs cannot be compared, source only is in none of them, or they have no
        score by that validator.

    Examples
    --------
    >>> found = select("runs/uf-ama", "runs/dann", validator="bnm")
    >>> found.run, found.method
    """
    chooses: Validator = find("validator", validator)()
    if not (chooses.sees_target or chooses.held_out or chooses.needs_training):
        raise ConfigurationError(
            f"The validator {validator!r} tells epochs of one training apart, and "
            f"looks at no network; expected one that does, such as {SELECTED_BY}."
        )
    choices = [each for run, path in _named(runs) for each in _choices(run, path)]
    choices = _different(choices)
    places = _places(choices)
    _require_source_only(choices)
    _require_scores(choices, validator)
    by_place = pd.DataFrame(
        [_compared(chooses, validator, choices, place) for place in places],
        index=pd.MultiIndex.from_tuples(places, names=["fold", "seed"]),
        columns=[each.name for each in choices],
    )
    table = pd.DataFrame(
        {
            "run": [each.run for each in choices],
            "method": [each.method for each in choices],
            "score": by_place.mean().to_numpy(),
            "alone": [each.alone(validator) for each in choices],
            "sound": [each.sound() for each in choices],
            "seconds": [each.seconds(validator) for each in choices],
        }
    )
    # Where two are equal, not to adapt is the simpler thing, and then the earlier run.
    order = table.assign(
        score=tied(table["score"]), plain=table["method"] == SOURCE_ONLY
    ).sort_values(["sound", "score", "plain"], ascending=False, kind="stable")
    table = table.loc[order.index]
    best = table.iloc[0]
    folds = _by_fold(by_place, choices)
    return Selected(
        validator, best["run"], best["method"], table.reset_index(drop=True), folds
    )


def _named(runs: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """Return the folders with the shortest names that tell them apart."""
    check_folders("select", runs)
    paths = [Path(run) for run in runs]
    if not paths:
        raise ConfigurationError("Found no run to choose from; name a folder or more.")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigurationError(
            "Found the same folder twice; expected different runs."
        )
    shorts = [path.name for path in paths]
    return [
        (path.name if path.name and shorts.count(path.name) == 1 else str(path), path)
        for path in paths
    ]


def _choices(run: str, folder: Path) -> list[_Choice]:
    """Return a run's own method, and source only where it stands beside it."""
    described = read_stored_config(folder)
    if described.get("validator") == "oracle":
        raise ConfigurationError(
            f"{run}: its epochs were chosen by the target's labels (ORACLE), so that "
            f"it cannot be chosen without. Leave it out."
        )
    described |= {"signals": read_json(folder / ENVIRONMENT, signals=str)["signals"]}
    found: dict[str, _Choice] = {}
    for job in find_all_trained(folder):
        record = load_record(job)
        method = method_name(str(record.facts["adapter"]))
        choice = found.setdefault(method, _Choice(run, method, described))
        choice.records[str(record.facts["fold"]), int(record.facts["seed"])] = record
    # The adapter first, as in every table.
    return sorted(found.values(), key=lambda each: each.method == SOURCE_ONLY)


def _different(choices: Sequence[_Choice]) -> list[_Choice]:
    """Return the choices without a source only that another run has as well.

    The very same networks would be ranked, and have a vote, once for each run.
    """
    found: list[_Choice] = []
    for each in choices:
        known = [one for one in found if one.method == SOURCE_ONLY]
        if each.method != SOURCE_ONLY or not any(_alike(each, one) for one in known):
            found.append(each)
    return found


def _alike(one: _Choice, other: _Choice) -> bool:
    """Return whether two choices predict the same, to the last bit."""
    return one.records.keys() == other.records.keys() and all(
        np.array_equal(record.probabilities, other.records[place].probabilities)
        for place, record in one.records.items()
    )


def _places(choices: Sequence[_Choice]) -> list[Place]:
    """Return the folds and seeds that all have; refuse what cannot be compared."""
    first, *others = choices
    for other in others:
        pair = f"{first.name} and {other.name} cannot be compared:"
        apart = sorted(first.records.keys() ^ other.records.keys())
        if apart:
            fold, seed = apart[0]
            raise ConfigurationError(
                f"{pair} only one of them has {fold}, seed {seed}"
                f"{f' and {len(apart) - 1} more' if len(apart) > 1 else ''}. Finish "
                f"both, on the same folds and with the same seeds."
            )
        keys = _differing(first.described, other.described)
        if keys:
            raise ConfigurationError(
                f"{pair} their {listed(keys)} differ, so that they answer different "
                f"questions. Run both alike."
            )
    seeds = sorted({seed for _, seed in first.records})
    folds = in_order({fold for fold, _ in first.records})
    every = [(fold, seed) for fold in folds for seed in seeds]
    return [place for place in every if place in first.records]


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return which choices differ that decide what is asked."""
    one, other = flat(ours), flat(theirs)
    keys = differing(one, other)
    found = [key for key in keys if key in _SAME or key.startswith("protocol.")]
    inputs = ("modalities", "channels", "exclude_channels", "exclude")
    alike = all(one.get(key) == other.get(key) for key in inputs)
    if alike and ours["signals"] != theirs["signals"]:
        found.append("recordings")
    return found


def _require_source_only(choices: Sequence[_Choice]) -> None:
    """Refuse to choose where not to adapt is no choice."""
    if any(each.method == SOURCE_ONLY for each in choices):
        return
    runs = list(dict.fromkeys(each.run for each in choices))
    raise ConfigurationError(
        f"{listed(runs)}: found no source only beside the adapters, so that not to "
        f"adapt could not be chosen. Run one of them with its baselines, or name a run "
        f"of the adapter none as well."
    )


def _require_scores(choices: Sequence[_Choice], validator: str) -> None:
    """Refuse a validator that could not tell, as nobody was held out."""
    for each in choices:
        missing = [p for p in each.records if each.said(p, validator)["score"] is None]
        if len(missing) < len(each.records):
            continue
        held_out = find("validator", validator)().held_out
        raise ConfigurationError(
            f"{each.run}: {validator!r} has no score of {each.method} in any of "
            f"{count(len(missing), 'training')}"
            + (
                ", as no source domain was held out of training to be scored. Run it "
                "again with a validator that holds some out, such as --validator "
                "source, or --set validator.held_out=true for the last epoch; or "
                "choose by one that needs none, such as --validator bnm."
                if held_out
                else ". Choose by another validator."
            )
        )


def _compared(
    validator: Validator, name: str, choices: Sequence[_Choice], place: Place
) -> list[float]:
    """Return every choice's score in one fold, with one seed."""
    found = [each.evidence(place, name) for each in choices]
    sizes = {len(each) for each in found if each is not None}
    if len(sizes) > 1:
        raise ConfigurationError(
            f"{name!r} compares what networks say of the same samples, and in "
            f"{place[0]} these were not shown the same ones. Choose by another "
            f"validator, or give the runs one sampling (--sampling)."
        )
    return comparison(validator, found)


def _by_fold(by_place: pd.DataFrame, choices: Sequence[_Choice]) -> pd.DataFrame:
    """Return what would be chosen in each fold, of what is sound there.

    Other folds tell nothing of it: among their source is whom this one tests.
    """
    means = by_place.groupby(level="fold", sort=False).mean()
    order = sorted(choices, key=lambda each: each.method != SOURCE_ONLY)
    best = []
    for fold in means.index:
        sound = [each for each in order if each.sound(fold)] or order
        there = means.loc[[fold], [each.name for each in sound]]
        best.append(tied(there).idxmax(axis=1).iloc[0])
    by_name = {each.name: each for each in choices}
    return pd.DataFrame(
        {
            "fold": list(means.index),
            "run": [by_name[str(name)].run for name in best],
            "method": [by_name[str(name)].method for name in best],
            **{name: means[name].to_numpy() for name in means},
        }
    )


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as JSON can hold them, None for what is not finite."""

    def known(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        return value if not isinstance(value, float) or math.isfinite(value) else None

    return [
        {str(key): known(value) for key, value in row.items()}
        for row in table.to_dict("records")
    ]
