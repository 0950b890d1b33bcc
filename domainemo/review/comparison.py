"""Finished runs, and the methods within one, compared over the subjects they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import ConfigurationError, did_you_mean
from ..runs.metrics import LOWER, METRICS
from ..runs.results import Results
from ..statistics.bayesian import Chances
from ..statistics.intervals import FEWEST, bootstrap_interval
from ..statistics.paired import Comparison
from ..statistics.paired import compare as compare_paired
from ..statistics.ranks import Ranks, friedman
from ..statistics.several import Combined, holm, stouffer
from ..values import check_folders, check_value
from ..words import count, listed
from .comparable import (
    beside_recordings,
    by_dataset,
    check_comparable,
    what_differs,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Compared", "OnDataset", "compare"]


@dataclass(frozen=True)
class OnDataset:
    """What runs on one data set say of their methods.

    Attributes
    ----------
    name : str
        Of the data set.
    level : str
        What one prediction is about.
    values : DataFrame
        A row per subject and a column per method, averaged over seeds.
    dropped : list of str
        Subjects left out, because some method has no score of them.
    differences : mapping of str to Comparison
        Of every other method, less the reference.
    corrected : mapping of str to float
        Their signed-rank p after Holm's correction.
    ranks : Ranks or None
        Of three or more methods.
    notes : list of str
        In what the runs differ, and what they saw.
    """

    name: str
    level: str
    values: pd.DataFrame
    dropped: list[str]
    differences: Mapping[str, Comparison]
    corrected: Mapping[str, float]
    ranks: Ranks | None
    notes: list[str]


@dataclass(frozen=True)
class Compared:
    """Runs compared with a reference.

    Attributes
    ----------
    metric, reference : str
    rope : float
        Differences of up to this count as practically none.
    datasets : list of OnDataset
    combined : mapping of str to Combined
        Over several data sets, of each method that all of them have.
    combined_p : mapping of str to float
        Its p after Holm's correction.
    """

    metric: str
    reference: str
    rope: float
    datasets: list[OnDataset]
    combined: Mapping[str, Combined]
    combined_p: Mapping[str, float]

    def __repr__(self) -> str:
        """Say what was compared, on what; :meth:`table` has the numbers."""
        where = "; ".join(
            f"{each.name}, {count(len(each.values), 'subject')}: "
            f"{', '.join(map(str, each.values))}"
            for each in self.datasets
        )
        return f"Compared({self.metric}, less {self.reference}; {where})"

    def _repr_html_(self) -> str:
        """Show the numbers as a table, under what was compared, in a notebook."""
        shown = self.table().to_html(
            float_format="{:.3f}".format, border=0, index=False
        )
        notes = [note for each in self.datasets for note in each.notes]
        return "".join(
            [
                f"<p>{escape(repr(self))}</p>{shown}",
                *(f"<p>{escape(n)}</p>" for n in notes),
            ]
        )

    def table(self) -> pd.DataFrame:
        """Return a row per data set and method, with every number."""
        rows = []
        for each in self.datasets:
            for method in map(str, each.values):
                values = each.values[method].to_numpy(dtype=float)
                low, high = bootstrap_interval(values)
                row = {
                    "dataset": each.name,
                    "level": each.level,
                    "metric": self.metric,
                    "method": method,
                    "subjects": len(values),
                    "mean": values.mean(),
                    "low": low,
                    "high": high,
                }
                if each.ranks is not None:
                    row["rank"] = each.ranks.average[method]
                if method in each.differences:
                    row |= _columns(each.differences[method], each.corrected[method])
                rows.append(row)
        return pd.DataFrame(rows)

    def plot(self) -> Figure:
        """Draw each subject as a line from method to method, and the means beside.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it to a file.
        """
        # What is drawn lies beyond the review; it is asked for as by anybody else.
        from .. import draw_paired

        return draw_paired(self)

    def record(self) -> dict[str, Any]:
        """Return everything as JSON has it, None for NaN."""
        rows = self.table().to_dict("records")
        return {
            "metric": self.metric,
            "reference": self.reference,
            "rope": self.rope,
            "methods": [{str(k): _known(v) for k, v in row.items()} for row in rows],
            "ranks": {
                each.name: asdict(each.ranks)
                | {"average": each.ranks.average.to_dict()}
                | {key: _known(getattr(each.ranks, key)) for key in ("statistic", "p")}
                for each in self.datasets
                if each.ranks is not None
            },
            "combined": {
                name: asdict(found) | {"holm": self.combined_p[name]}
                for name, found in self.combined.items()
            },
            "notes": {each.name: each.notes for each in self.datasets},
        }


def _known(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _columns(found: Comparison, corrected: float) -> dict[str, Any]:
    """Return the columns of a difference."""
    effects = {"d_z": found.standardised, "rank_biserial": found.rank_biserial}
    row: dict[str, Any] = {
        "difference": found.difference,
        "difference_low": found.low,
        "difference_high": found.high,
        "wilcoxon_p": found.p,
        "permutation_p": found.permutation,
        "holm_p": corrected,
    }
    for name, effect in effects.items():
        row |= {name: effect.value}
        row |= {f"{name}_low": effect.low, f"{name}_high": effect.high}
    row |= {f"p_{name}": chance for name, chance in asdict(found.chances).items()}
    return row | {"subjects_needed": found.needed}


def compare(
    *runs: str | Path | Results,
    metric: str = "balanced_accuracy",
    level: str | None = None,
    methods: Sequence[str] | None = None,
    reference: str | None = None,
    rope: float = 0.02,
) -> Compared:
    """Compare finished runs, subject by subject, with one method as the reference.

    Of a data set with one run, all its methods are compared; of one with several, each
    run's own.

    Parameters
    ----------
    *runs : path or Results
        Folders of finished runs, or what `run` returned; one is enough.
    metric : str
        ``"accuracy"``, ``"balanced_accuracy"``, ``"macro_f1"``, ``"kappa"``,
        ``"calibration_error"``, ``"auroc"``, ``"log_loss"`` or
        ``"selective_accuracy"``.
    level : str, optional
        ``"window"``, ``"sequence"``, ``"trial"`` or ``"trial, majority"``; by default
        what the runs predict.
    methods : sequence of str, optional
        Of each run, those to compare, such as ``["source only"]``.
    reference : str, optional
        The method that the others are compared with, as named in the tables; by
        default the first run's own.
    rope : float
        Differences of up to this count as practically none.

    Returns
    -------
    Compared

    Raises
    ------
    ConfigurationError
        If the runs answer different questions, such as those of other recordings, folds
        or protocols, or if there is nothing to compare.
    """
    check_value("metric", metric, str)
    if metric not in METRICS:
        raise ConfigurationError(
            f"Found the metric {metric!r}.{did_you_mean(metric, METRICS)} Expected one "
            f"of {', '.join(METRICS)}."
        )
    if not rope >= 0 or not math.isfinite(rope):
        raise ConfigurationError(f"Found the rope {rope}; expected 0 or more.")
    read = _read(runs)
    groups = by_dataset(read)
    for group in groups.values():
        check_comparable(group, level)
    columns = {name: _columns_of(group, methods) for name, group in groups.items()}
    labels = _labelled(columns, groups)
    chosen = _reference(reference, labels, next(iter(read.values())))
    datasets = [
        _on_dataset(name, groups[name], labels[name], metric, level, chosen, rope)
        for name in groups
    ]
    _note_unlike(datasets, groups)
    combined = _combined(datasets, metric)
    corrected = holm([each.p for each in combined.values()])
    ps = {name: float(p) for name, p in zip(combined, corrected, strict=True)}
    return Compared(metric, chosen, rope, datasets, combined, ps)


def _note_unlike(
    datasets: Sequence[OnDataset], groups: Mapping[str, Mapping[str, Results]]
) -> None:
    """Note in what the runs of each data set differ from those of the first."""
    first, *others = (next(iter(group.items())) for group in groups.values())
    for each, (name, results) in zip(datasets[1:], others, strict=True):
        each.notes.extend(beside_recordings(*first, name, results))


def _read(runs: Sequence[str | Path | Results]) -> dict[str, Results]:
    """Return results under the shortest names that tell them apart."""
    if not runs:
        raise ConfigurationError("Found no run to compare; name one folder or more.")
    check_folders("compare", [run for run in runs if not isinstance(run, Results)])
    paths = [None if isinstance(run, Results) else Path(run) for run in runs]
    twice = len({*paths} - {None}) < sum(path is not None for path in paths)
    if twice:
        raise ConfigurationError(
            "Found the same folder twice; expected different runs."
        )
    shorts = [path.name for path in paths if path is not None]
    found = {}
    for number, (run, path) in enumerate(zip(runs, paths, strict=True), start=1):
        if path is None:
            found[f"run {number}"] = run
        else:
            unique = path.name and shorts.count(path.name) == 1
            found[path.name if unique else str(path)] = Results.load(path)
    return {name: run for name, run in found.items() if isinstance(run, Results)}


Column = tuple[str, str]
"""A run's name, and a method of it."""


def _columns_of(
    group: Mapping[str, Results], wanted: Sequence[str] | None
) -> list[Column]:
    """Return which methods of which runs are compared on a data set."""
    found = []
    for name, results in group.items():
        own = results.methods if len(group) == 1 else [results.method]
        there = [m for m in results.methods if m in wanted] if wanted else own
        if not there:
            raise ConfigurationError(
                f"{name}: found no method {listed(wanted or [])}; it has "
                f"{listed(results.methods)}."
            )
        found += [(name, method) for method in there]
    return found


def _labelled(
    columns: Mapping[str, Sequence[Column]], groups: Mapping[str, Mapping[str, Results]]
) -> dict[str, dict[str, Column]]:
    """Return what each column is called: the shortest that tells all of them apart."""

    def backbone(group: Mapping[str, Results], column: Column) -> str:
        run, method = column
        if method in group[run].controls:
            return method
        return f"{method} on {group[run].description['backbone']}"

    def named(style: int) -> dict[str, dict[str, Column]]:
        found: dict[str, dict[str, Column]] = {}
        for name, group in groups.items():
            for column in columns[name]:
                run, method = column
                label = (method, backbone(group, column), f"{run}: {method}")[style]
                found.setdefault(name, {})[label] = column
        return found

    for style in range(3):
        labels = named(style)
        if all(len(labels[name]) == len(columns[name]) for name in columns):
            break
    return labels


def _reference(
    wanted: str | None, labels: Mapping[str, Mapping[str, Column]], first: Results
) -> str:
    """Return the label of the reference, which every data set must have."""
    here = next(iter(labels.values()))
    own = [name for name, (_, method) in here.items() if method == first.method]
    chosen = wanted or (own or [*here])[0]
    for dataset, theirs in labels.items():
        if chosen not in theirs:
            raise ConfigurationError(
                f"Found no method {chosen!r} on {dataset} to compare with."
                f"{did_you_mean(chosen, theirs)} Expected, with --reference, one of "
                f"{', '.join(theirs)}."
            )
        if len(theirs) < 2:
            raise ConfigurationError(
                f"Found nothing to compare {chosen} with on {dataset}. Name another "
                f"run on the same recordings, or run it with its baselines."
            )
    return chosen


def _on_dataset(
    name: str,
    group: Mapping[str, Results],
    labels: Mapping[str, Column],
    metric: str,
    level: str | None,
    reference: str,
    rope: float,
) -> OnDataset:
    level = level or next(iter(group.values())).level
    wide = {
        label: _per_subject(group[run], run, metric, level)[method]
        for label, (run, method) in labels.items()
    }
    table = pd.DataFrame(wide)
    # As a run's own comparison draws them, so that the same numbers come of it.
    table = table[[reference, *(n for n in table if n != reference)]].sort_index()
    known = table.dropna()
    dropped = [str(subject) for subject in table.index.difference(known.index)]
    if not len(known):
        raise ConfigurationError(
            f"{name}: no subject has a {metric} of every method; choose another metric."
        )
    base = known[reference].to_numpy(dtype=float)
    found = {
        str(label): _compared(known[label].to_numpy(dtype=float), base, metric, rope)
        for label in known
        if label != reference
    }
    corrected = holm([each.p for each in found.values()])
    return OnDataset(
        name=name,
        level=level,
        values=known,
        dropped=dropped,
        differences=found,
        corrected={k: float(p) for k, p in zip(found, corrected, strict=True)},
        ranks=friedman(known, lower=metric in LOWER) if len(wide) > 2 else None,
        notes=what_differs(group),
    )


def _per_subject(results: Results, run: str, metric: str, level: str) -> pd.DataFrame:
    if metric not in results.table:
        raise ConfigurationError(
            f"{run}: an earlier version made this run, without {metric}; run it again "
            f"into a new folder, or choose another metric."
        )
    levels = [*dict.fromkeys(results.table["level"])]
    if level not in levels:
        raise ConfigurationError(
            f"{run}: found no scores per {level}; expected, with --level, one of "
            f"{', '.join(map(repr, levels))}."
        )
    return results.per_subject(metric, level)


def _compared(first: Any, second: Any, metric: str, rope: float) -> Comparison:
    found = compare_paired(first, second, rope=rope)
    if metric in LOWER:  # there, less is better
        chances = found.chances
        turned = Chances(chances.better, chances.equal, chances.worse)
        return replace(found, chances=turned)
    return found


def _combined(datasets: Sequence[OnDataset], metric: str) -> dict[str, Combined]:
    """Return what several data sets say together of the methods that all have."""
    if len(datasets) < 2 or any(len(each.values) < FEWEST for each in datasets):
        return {}
    shared = [
        name
        for name in datasets[0].differences
        if all(name in each.differences for each in datasets)
    ]
    found = {n: stouffer([each.differences[n] for each in datasets]) for n in shared}
    if metric in LOWER:
        found = {name: replace(each, z=-each.z) for name, each in found.items()}
    return found
