"""What a benchmark found: one table, a row for each method on each data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import files
from ..runs.experiment import SOURCE_ONLY
from ..runs.folder import write_table
from ..runs.metrics import METRICS
from ..statistics.effects import LEVEL
from ..statistics.intervals import bootstrap_interval
from ..statistics.paired import wilcoxon
from ..statistics.several import holm
from ..statistics.ties import gap_between, tied
from .cells import Outcome
from .printed import as_latex, as_markdown, difference_columns

__all__ = ["Findings", "Group", "gather", "read_findings", "tiers", "write_findings"]

Method = tuple[str, str]
"""A backbone, none of a control, and what stands on it."""

LINEAR: Method = ("", "logistic regression")
"""What a network must beat to be worth its training."""

_HOW = (
    "modalities",
    "access",
    "target_seen",
    "normalisation",
    "selection",
    "sampling",
    "version",
)


@dataclass(frozen=True)
class Group:
    """Everything that can be compared: one data set under one protocol.

    Attributes
    ----------
    dataset, protocol : str
    level : str
        What one prediction is about: the level that all backbones share, else trials.
    scores : DataFrame
        Balanced accuracy: a row per subject, a column per method, means over seeds;
        subjects without a score under every method are left out.
    rows : mapping of Method to DataFrame
        The scores of each method's run at that level.
    outcomes : sequence of Outcome
        Of its cells, those without a number as well.
    reference : str
        The backbone, or the adapter, or both, that others are compared with.
    """

    dataset: str
    protocol: str
    level: str
    scores: pd.DataFrame
    rows: dict[Method, pd.DataFrame]
    outcomes: Sequence[Outcome]
    reference: str = ""

    @property
    def name(self) -> str:
        """Which one it is, in words."""
        return f"{self.dataset}, {self.protocol}"

    @property
    def methods(self) -> list[Method]:
        """All methods, in the order of the cells."""
        return list(self.scores)  # type: ignore[arg-type]

    def base(self, method: Method) -> Method | None:
        """Return source only on a method's backbone; None of itself and of controls."""
        backbone = method[0]
        bases = [each for each in self.rows if is_base(each) and each[0] == backbone]
        return bases[0] if backbone and bases and bases[0] != method else None

    def linear(self, method: Method) -> Method | None:
        """Return logistic regression, if it was run; None of itself."""
        return LINEAR if LINEAR in self.rows and method != LINEAR else None

    def referred(self, method: Method) -> Method | None:
        """Return the same with the reference in place; None of itself, of controls."""
        backbone, name = method
        if not backbone or not self.reference:
            return None
        if any(self.reference == each for each, _ in self.rows):
            backbone = self.reference
        if (backbone, self.reference) in self.rows and not is_base(method):
            name = self.reference
        found = backbone, name
        return found if found in self.rows and found != method else None

    def gap(self, method: Method, other: Method | None) -> NDArray[np.float64] | None:
        """Return each subject's difference to another method; None to none."""
        return None if other is None else gap_between(self.of(method), self.of(other))

    def of(self, method: Method) -> NDArray[np.float64]:
        """Return the subjects' scores under a method."""
        return self.scores[method].to_numpy(dtype=float)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per method, the best rank and mean first, and one per failed cell."""
        if self.scores.empty:
            why = "no subject has a score under every method"
            unscored = [self._names(*method) | {"why": why} for method in self.rows]
            return pd.DataFrame([*unscored, *self._failed()])
        ranks, means = tiers(self.scores), tied(self.scores.mean())
        places = tied(self.scores).rank(axis=1, ascending=False).mean()
        order = sorted(self.methods, key=lambda each: (ranks[each], -means[each]))
        bases = self._differences(order, self.base, "")
        linears = self._differences(order, self.linear, "linear_")
        others = self._differences(order, self.referred, "reference_")
        rows = [
            self._row(method)
            | {
                "rank": int(ranks[method]),
                "tied": int((ranks == ranks[method]).sum()) > 1,
                "mean_rank": float(places[method]),
            }
            | base
            | linear
            | {"reference": self.reference}
            | other
            for method, base, linear, other in zip(
                order, bases, linears, others, strict=True
            )
        ]
        return pd.DataFrame([*rows, *self._failed()])

    def _differences(
        self,
        methods: Sequence[Method],
        reference: Callable[[Method], Method | None],
        prefix: str,
    ) -> list[dict[str, float]]:
        """Return each method's difference to its reference, tested as one family."""
        gaps = [self.gap(method, reference(method)) for method in methods]
        p = holm([np.nan if gap is None else wilcoxon(gap) for gap in gaps])
        found = []
        for gap, corrected in zip(gaps, p, strict=True):
            values = [math.nan] * 4
            if gap is not None:
                values = [gap.mean(), *bootstrap_interval(gap), corrected]
            found.append(dict(zip(difference_columns(prefix), values, strict=True)))
        return found

    def _row(self, method: Method) -> dict[str, Any]:
        values, rows = self.of(method), self.rows[method]
        scored = rows[rows["subject"].isin(self.scores.index)]
        low, high = bootstrap_interval(values)
        trained = rows.drop_duplicates(["fold", "seed"])
        return {
            **self._names(*method),
            "subjects": len(values),
            "low": low,
            "high": high,
            "deviation": values.std(ddof=1) if len(values) > 1 else np.nan,
            **{name: scored.groupby("subject")[name].mean().mean() for name in METRICS},
            "balanced_accuracy": values.mean(),
            "parameters": trained["parameters"].max(),
            "seconds": trained["seconds"].mean(),
            "trainings": int(trained["seconds"].notna().sum()),
            "seeds": ", ".join(map(str, sorted(rows["seed"].unique()))),
            **{name: _of_all(rows[name].fillna("").astype(str)) for name in _HOW},
        }

    def _failed(self) -> Iterator[dict[str, Any]]:
        for each in self.outcomes:
            if each.why:
                adapter = each.cell.adapter
                shown = SOURCE_ONLY if adapter == "none" else adapter
                yield {**self._names(each.cell.backbone, shown), "why": each.why}

    def _names(self, backbone: str, method: str) -> dict[str, str]:
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "level": self.level,
            "backbone": backbone,
            "method": method,
        }


@dataclass(frozen=True)
class Findings:
    """Everything that a benchmark found.

    Attributes
    ----------
    groups : list of Group
        One for each data set and protocol.
    content : str
        The file of the benchmark.
    """

    groups: list[Group]
    content: str

    @cached_property
    def table(self) -> pd.DataFrame:
        """Return the one table: see :func:`write_findings`."""
        parts = [group.table for group in self.groups]
        return _typed(pd.concat(parts, ignore_index=True))

    @property
    def outcomes(self) -> list[Outcome]:
        """What came of every cell."""
        return [each for group in self.groups for each in group.outcomes]


def _of_all(told: pd.Series[str]) -> str:
    """Return what is told of a method's folds; of several kinds, each."""
    return "; or ".join(told.unique())


_COLUMNS = [
    *("dataset", "protocol", "level", "backbone", "method", "rank", "tied"),
    *("mean_rank", "subjects", "balanced_accuracy", "low", "high", "deviation"),
    *difference_columns(),
    *difference_columns("linear_"),
    "reference",
    *difference_columns("reference_"),
    *(name for name in METRICS if name != "balanced_accuracy"),
    *("parameters", "seconds", "trainings", "seeds"),
    *_HOW,
    "why",
]


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return all columns of the table in their order, each of its own type."""
    whole = table.reindex(columns=_COLUMNS)
    text = ["backbone", "reference", "seeds", *_HOW, "why"]
    whole[text] = whole[text].astype(object).fillna("")
    numbers = ["rank", "subjects", "parameters", "trainings"]
    whole["tied"] = whole["tied"].astype("boolean")
    return whole.astype(dict.fromkeys(numbers, "Int64"))


def is_base(method: Method) -> bool:
    """Return whether a method is source only, also where an oracle chose its epoch."""
    return bool(method[0]) and method[1].startswith(SOURCE_ONLY)


def gather(outcomes: Sequence[Outcome], content: str, reference: str = "") -> Findings:
    """Bring together what came of all cells.

    Parameters
    ----------
    outcomes : sequence of Outcome
    content : str
        The file of the benchmark.
    reference : str
        See `Group`.
    """
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.cell.dataset, each.cell.protocol), []).append(each)
    found = [_group(*key, own, reference) for key, own in groups.items()]
    return Findings(found, content)


def _group(
    dataset: str, protocol: str, outcomes: Sequence[Outcome], reference: str
) -> Group:
    tables = [each.table for each in outcomes if each.table is not None]
    levels = {str(table["level"].iloc[0]) for table in tables}
    level = levels.pop() if len(levels) == 1 else "trial"
    rows: dict[Method, pd.DataFrame] = {}
    for each in outcomes:
        if each.table is not None:
            rows |= _by_method(each, each.table[each.table["level"] == level])
    scores = pd.DataFrame(
        {
            method: own.groupby("subject")["balanced_accuracy"].mean()
            for method, own in rows.items()
        }
    )
    return Group(dataset, protocol, level, scores.dropna(), rows, outcomes, reference)


def _by_method(outcome: Outcome, rows: pd.DataFrame) -> dict[Method, pd.DataFrame]:
    """Return a run's rows by method, each called as the benchmark calls it."""
    found: dict[Method, pd.DataFrame] = {}
    for name, own in rows.groupby("method", sort=False):
        bare = pd.isna(own["backbone"]).all() or (own["backbone"] == "").all()
        method = str(name)
        if not bare and outcome.cell.adapter != "none":
            chosen = outcome.cell.experiment.adapter.name
            method = method.replace(chosen, outcome.cell.adapter, 1)
        found["" if bare else outcome.cell.backbone, method] = own
    return found


def tiers(scores: pd.DataFrame, level: float = LEVEL) -> pd.Series[int]:
    """Return each method's rank; those that cannot be told apart share one.

    The method of the highest mean is first, and with it every other whose difference
    from it does not show: Wilcoxon's signed-rank test over subjects, corrected by Holm
    for the number of methods. The same is done with those that are left. Of fewer than
    five subjects nothing shows.

    Parameters
    ----------
    scores : DataFrame
        A row per subject and a column per method.
    level : float
        Of the tests.
    """
    left = list(tied(scores.mean()).sort_values(ascending=False, kind="stable").index)
    ranks: dict[Any, int] = {}
    while left:
        best, *others = left
        gaps = [gap_between(scores[best], scores[each]) for each in others]
        p = holm([wilcoxon(gap.to_numpy()) for gap in gaps])
        below = [each for each, its in zip(others, p, strict=True) if its < level]
        rank = len(ranks) + 1
        ranks |= {each: rank for each in left if each not in below}
        left = below
    return pd.Series(ranks, dtype=int)[list(scores.columns)]


def write_findings(folder: Path, findings: Findings) -> None:
    """Write the table as Parquet, CSV, LaTeX and Markdown, and the benchmark's file.

    Parameters
    ----------
    folder : Path
        The benchmark's.
    findings : Findings
    """
    write_table(folder, "table", findings.table)
    files.write_recorded(folder / "table.tex", as_latex(findings.table))
    files.write_recorded(folder / "table.md", as_markdown(findings.table) + "\n")
    files.write_recorded(folder / "benchmark.toml", findings.content)


def read_findings(path: Path) -> pd.DataFrame:
    """Return the table of a benchmark, as its ``table.csv`` has it.

    Parameters
    ----------
    path : Path
        The file, or a copy of it.
    """
    texts = dict.fromkeys(("dataset", "protocol", "backbone", "method", "seeds"), str)
    return _typed(pd.read_csv(path, dtype=texts))
