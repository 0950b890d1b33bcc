"""Results: one tidy table of scores, one of predictions, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import files
from ..words import count, in_order
from .experiment import SOURCE_ONLY
from .folder import write_table
from .statistics import Comparison, bootstrap_interval, compare

__all__ = ["Results", "write_results"]


@dataclass(frozen=True)
class Results:
    """Everything a run found.

    Attributes
    ----------
    table : DataFrame
        A row per method x fold x seed x level, with the metrics and how the number
        was obtained: dataset, protocol, access, what of the target was seen,
        normalisation, selection, sampling.
    predictions : DataFrame
        A row per method x fold x seed x sample, with the probability of each class.
    description : mapping
        The configuration, as in ``config.toml``.
    method : str
        The adapter that was asked for, as named in the tables.
    """

    table: pd.DataFrame
    predictions: pd.DataFrame
    description: Mapping[str, Any]
    method: str

    def __repr__(self) -> str:
        """Say what was run on what; :meth:`summary` has the numbers."""
        folds, methods = self.table["fold"].nunique(), ", ".join(self.methods)
        data, subjects = self.table["dataset"].iloc[0], self.table["subject"].nunique()
        return (
            f"Results({data}; {count(folds, 'fold')}, {count(subjects, 'subject')}; "
            f"{methods})"
        )

    @property
    def level(self) -> str:
        """What one prediction is about: a window, a sequence or a trial."""
        return str(self.table["level"].iloc[0])

    @property
    def controls(self) -> list[str]:
        """The methods without a network: what is predicted from next to nothing."""
        bare = self.table["backbone"].isna() | (self.table["backbone"] == "")
        return list(dict.fromkeys(self.table["method"][bare]))

    @property
    def methods(self) -> list[str]:
        """All methods, the adapter first."""
        return list(dict.fromkeys(self.table["method"]))

    def per_subject(
        self, metric: str = "balanced_accuracy", level: str | None = None
    ) -> pd.DataFrame:
        """Return a row per subject and a column per method, averaged over seeds.

        Subjects stand in natural order: 2 before 10.
        """
        wide = self._wide(metric, level)
        return wide.loc[in_order(wide.index)]

    def per_fold(self, metric: str = "balanced_accuracy") -> pd.DataFrame:
        """Return a row per fold and a column per method, averaged over seeds."""
        chosen = self.table[self.table["level"] == self.level]
        wide = chosen.pivot_table(metric, index="fold", columns="method", sort=False)
        return wide[self.methods]

    def summary(self, metric: str = "balanced_accuracy") -> pd.DataFrame:
        """Return mean, deviation and 95 % bootstrap interval over subjects.

        Parameters
        ----------
        metric : str
            A column of `table`.

        Returns
        -------
        DataFrame
            A row per method: ``mean``, ``deviation``, ``low``, ``high``, ``subjects``,
            and the mean of whole trials, ``trial``.
        """
        subjects, trials = self._wide(metric), self._wide(metric, "trial")
        rows = {}
        for method in self.methods:
            values = subjects[method].to_numpy(dtype=float)
            low, high = bootstrap_interval(values)
            rows[method] = {
                "mean": values.mean(),
                "deviation": values.std(ddof=1) if len(values) > 1 else np.nan,
                "low": low,
                "high": high,
                "subjects": len(values),
                "trial": trials[method].mean(),
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def comparison(self, metric: str = "balanced_accuracy") -> Comparison | None:
        """Compare the adapter with source only, subject by subject.

        Returns None where source only was not run, or is the adapter itself.
        """
        baseline = next((m for m in self.methods if m.startswith(SOURCE_ONLY)), None)
        if baseline is None or self.method == baseline:
            return None
        wide = self._wide(metric)
        return compare(
            wide[self.method].to_numpy(dtype=float),
            wide[baseline].to_numpy(dtype=float),
        )

    def _wide(self, metric: str, level: str | None = None) -> pd.DataFrame:
        """Return subjects in the order in which intervals have always drawn them."""
        chosen = self.table[self.table["level"] == (level or self.level)]
        wide = chosen.pivot_table(metric, index="subject", columns="method", sort=True)
        return wide[[name for name in self.methods if name in wide]]

    def how(self) -> str:
        """Return one line that says how the numbers were obtained."""
        first = self.table[self.table["method"] == self.method].iloc[0]
        seeds = ", ".join(map(str, self.description["seeds"]))
        options = self.description["options"]
        chosen = f"of {count(options['training.epochs'], 'epoch')}"
        selection = (
            f"last {chosen}"
            if first["selection"] == "last"
            else f"epoch {chosen} chosen by {first['selection']}"
        )
        start = self.description.get("initialisation")
        share = options.get("training.label_share", 1)
        labels = "" if share == 1 else f"labels of {share:.3g} of the source's trials; "
        given = self._calibration()
        skipped = f"skipped {first['skipped']}; " if first.get("skipped") else ""
        alone = self._single_class()
        unscored = (
            f"no score for {', '.join(alone)} (a single class); " if alone else ""
        )
        device = self.description.get("device", "cpu")
        where = "" if device == "cpu" else f"on {device}; "
        return (
            f"{first['dataset']}, {first['modalities']}; {self.method} on "
            f"{first['backbone']}{f', {start}' if start else ''}; {labels}"
            f"{first['protocol']}, "
            f"{count(self.table['fold'].nunique(), 'fold')}, {first['access']} "
            f"({first['target_seen']}); {given}{skipped}{unscored}"
            f"{first['normalisation']}; {first['sampling']}; {selection}; "
            f"seed {seeds}; {self._control_options()}{where}domainemo "
            f"{first['version']}. Balanced accuracy per {self.level}; mean, standard "
            f"deviation and 95 % bootstrap interval over subjects."
        )

    def _calibration(self) -> str:
        """Return how many labels of the target each fold was given, if any."""
        if "calibration" not in self.table:
            return ""
        folds = self.table.drop_duplicates("fold")["calibration"]
        alike = in_order(folds.unique())
        shown = " or ".join(alike) if len(alike) < 3 else f"{alike[0]} to {alike[-1]}"
        return f"labels of the target given for calibration: {shown} a fold; "

    def _control_options(self) -> str:
        """Return the options of the controls that were run, if they have any."""
        found: dict[str, list[str]] = {}
        for key, value in self.description["options"].items():
            if key.startswith("control."):
                name, _, option = key.removeprefix("control.").rpartition(".")
                found.setdefault(name, []).append(f"{option} {value}")
        return "".join(
            f"control {name} ({', '.join(own)}); " for name, own in found.items()
        )

    def _single_class(self) -> list[str]:
        """Return the subjects of whom a single class was tested, who have no score."""
        of_level = self.table[self.table["level"] == self.level]
        scored = of_level.groupby("subject", sort=False)["balanced_accuracy"].count()
        return [f"subject {subject}" for subject in scored.index[scored == 0]]


def write_results(folder: Path, results: Results) -> None:
    """Write the tables as Parquet and CSV."""
    for name, table in (
        ("results", results.table),
        ("predictions", results.predictions),
    ):
        write_table(folder, name, table)
    files.write_recorded(folder / "how.txt", results.how() + "\n")
