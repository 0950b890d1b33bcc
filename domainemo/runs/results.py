"""Results: one tidy table of scores, one of predictions, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import files
from ..errors import ConfigurationError, RunError, data_error
from ..statistics.intervals import bootstrap_interval
from ..statistics.paired import Comparison, compare
from ..training.settings import epoch_in_words
from ..values import given_path
from ..words import count, in_order
from .experiment import SOURCE_ONLY
from .folder import read_distances, read_stored_config, read_tables, write_table
from .how import told_of_target, told_of_task
from .online import over_time
from .unscored import trial_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Results", "write_results"]


_SCORED = (
    "Balanced accuracy per {level}; mean, standard deviation and 95 % bootstrap "
    "interval over subjects."
)
_UNSCORED = (
    "No label of the target exists: nothing here tells how often a prediction is right."
)


@dataclass(frozen=True)
class Results:
    """Everything a run found.

    Attributes
    ----------
    table : DataFrame
        A row per method x fold x seed x level, with the metrics and how the number
        was obtained: dataset, protocol, access, what of the target was seen,
        normalisation, selection, sampling. Where nobody knows a label, in place of the
        metrics: ``share_CLASS`` of the predictions, their mean ``confidence``, the
        share ``changed`` against source only, and ``score_VALIDATOR`` of the network.
    predictions : DataFrame
        A row per method x fold x seed x sample, with the probability of each class.
    description : mapping
        The configuration, as in ``config.toml``.
    method : str
        The adapter that was asked for, as named in the tables.
    distances : DataFrame or None
        Of newcomers, whose labels nobody knows: how far they lie from the others.
    folder : Path or None
        Where the run is kept; None where it was given no place.
    """

    table: pd.DataFrame
    predictions: pd.DataFrame
    description: Mapping[str, Any]
    method: str
    distances: pd.DataFrame | None = None
    folder: Path | None = None

    @classmethod
    def load(cls, folder: str | Path) -> Results:
        """Read the tables of a finished run.

        Parameters
        ----------
        folder : path
            Of ``domainemo adapt``, or what was :func:`~domainemo.run`'s ``output``.

        Raises
        ------
        ConfigurationError
            If the folder is no run's, or the run is not finished, or tested nobody.
        RunError
            If one of its trainings diverged.
        """
        folder = given_path("folder", folder)
        description = read_stored_config(folder)
        path = folder / "results.parquet"
        if what := _no_run(description):
            raise ConfigurationError(
                f"{folder}: found the folder of {what}; expected that of a finished "
                f"`domainemo adapt`."
            )
        if not files.is_expected(path):
            raise ConfigurationError(
                f"{folder}: found no results.parquet, so this run is not finished; run "
                f"the same `domainemo adapt` again, which resumes it."
            )
        table, predictions = read_tables(folder)
        _check_finite(folder, predictions)
        distances = read_distances(folder)
        if distances is not None:
            _check_unscored(folder, table, predictions)
        method = str(table["method"].iloc[0])
        return cls(table, predictions, description, method, distances, folder)

    @property
    def scored(self) -> bool:
        """Whether the labels of what was predicted are known."""
        return "balanced_accuracy" in self.table

    def __repr__(self) -> str:
        """Say what was run on what; :meth:`summary` has the numbers."""
        folds, methods = self.table["fold"].nunique(), ", ".join(self.methods)
        data, subjects = self.table["dataset"].iloc[0], self.table["subject"].nunique()
        return (
            f"Results({data}; {count(folds, 'fold')}, {count(subjects, 'subject')}; "
            f"{methods})"
        )

    def _repr_html_(self) -> str:
        """Show the numbers as a table, under what was run on what, in a notebook."""
        shown = self.summary().to_html(float_format="{:.3f}".format, border=0)
        return f"<p>{escape(repr(self))}</p>{shown}<p>{escape(self.how())}</p>"

    @property
    def level(self) -> str:
        """What one prediction is about: a window, a sequence or a trial."""
        return str(self.table["level"].iloc[0])

    @property
    def controls(self) -> list[str]:
        """What stands beside the result to say what it is worth.

        The methods without a network, which predict from next to nothing, and the
        :attr:`retrainings`.
        """
        bare = self.table["backbone"].isna() | (self.table["backbone"] == "")
        found = {*self.table["method"][bare], *self.retrainings}
        return [name for name in self.methods if name in found]

    @property
    def retrainings(self) -> list[str]:
        """The controls that are the run's own training, with one thing changed."""
        # They are never among the usual controls, which a configuration leaves out.
        named = self.description.get("controls") or ()
        known = {each.partition(" (")[0].replace("-", " ") for each in named}
        networks = self.table[self.table["backbone"].notna()]
        networks = networks[networks["backbone"] != ""]
        found = dict.fromkeys(networks["method"])
        return [name for name in found if name.removesuffix(" [ORACLE]") in known]

    @property
    def methods(self) -> list[str]:
        """All methods, the adapter first."""
        return list(dict.fromkeys(self.table["method"]))

    @property
    def metric(self) -> str:
        """What is compared where nothing else is asked for."""
        return "balanced_accuracy" if self.scored else "confidence"

    def per_subject(
        self, metric: str | None = None, level: str | None = None
    ) -> pd.DataFrame:
        """Return a row per subject and a column per method, averaged over seeds.

        Subjects stand in natural order: 2 before 10.
        """
        wide = self._wide(metric or self.metric, level)
        return wide.loc[in_order(wide.index)]

    def per_fold(self, metric: str | None = None) -> pd.DataFrame:
        """Return a row per fold and a column per method, averaged over seeds."""
        chosen = self.table[self.table["level"] == self.level]
        metric = metric or self.metric
        wide = chosen.pivot_table(metric, index="fold", columns="method", sort=False)
        return wide[self.methods]

    def over_time(self) -> pd.DataFrame | None:
        """Return a row per method and step of an online run; None of any other.

        See :func:`domainemo.runs.online.over_time`.
        """
        return over_time(self.predictions)

    def people(self, level: str | None = None) -> pd.DataFrame:
        """Return a row per subject and method: what the predictions look like.

        The share of each class, the mean confidence, and the share that source only
        predicts otherwise; averaged over seeds. For newcomers, whom nothing can score.

        Raises
        ------
        ConfigurationError
            If everybody is scored: then the table says how each was predicted.
        """
        if "changed" not in self.table:
            raise ConfigurationError(
                "people() tells of newcomers, whom nothing can score; this run scores "
                "everybody, and its `table` has a row for each subject and method."
            )
        chosen = self.table[self.table["level"] == (level or self.level)]
        shares = [name for name in chosen if str(name).startswith("share_")]
        rows = chosen.groupby(["subject", "method"], sort=False)
        found = rows[[*shares, "confidence", "changed"]].mean()
        order = [
            (who, method)
            for who in in_order(chosen["subject"])
            for method in self.methods
            if (who, method) in found.index
        ]
        return found.loc[order]

    def validators(self) -> pd.DataFrame:
        """Return a row per validator: its score of each method, and whom it chooses.

        For newcomers: scores of finished networks that need no label of theirs, mean
        over folds and seeds. ``chooses`` is the method of the highest; nobody can tell
        here whether it is the best one.
        """
        chosen = self.table[self.table["level"] == self.level]
        columns = [name for name in chosen if str(name).startswith("score_")]
        means = chosen.groupby("method", sort=False)[columns].mean()
        means = means.dropna(axis=0, how="all").dropna(axis=1, how="all").T
        means.index = [name.removeprefix("score_") for name in means.index]
        means.columns.name = None
        return means.assign(chooses=means.idxmax(axis=1)) if len(means) else means

    def summary(self, metric: str = "balanced_accuracy") -> pd.DataFrame:
        """Return mean, deviation and 95 % bootstrap interval over subjects.

        Of newcomers, whom nothing can score, what :meth:`people` returns.

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
        if not self.scored and metric == "balanced_accuracy":
            return self.people()
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

    def plot(self) -> Figure:
        """Draw every method's mean and interval over subjects, and subjects as dots.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it to a file.

        Raises
        ------
        ConfigurationError
            If nobody knows a label of who was predicted, so that there is no score.
        """
        if not self.scored:
            raise ConfigurationError(
                "Nobody knows a label of these people, so that there is no score to "
                "draw; .people() and .report() tell what can be told."
            )
        # What is drawn lies beyond the runs; it is asked for as by anybody else.
        from .. import draw_methods

        return draw_methods(self)

    def report(self, output: str | Path | None = None, **choices: Any) -> Path:
        """Write the run's report, see :func:`domainemo.report`.

        Parameters
        ----------
        output : path, optional
            The page; by default ``report.html`` in the run's folder.
        **choices
            Of :func:`domainemo.report`, such as ``recordings``.

        Returns
        -------
        Path
            The page.

        Raises
        ------
        ConfigurationError
            If the run was given no folder.
        """
        if self.folder is None:
            raise ConfigurationError(
                "This run was given no folder, so that its networks are gone, which a "
                "report looks at. Run it with output=FOLDER."
            )
        from .. import report

        return report(self.folder, output, **choices)

    def to_latex(self, metric: str = "balanced_accuracy") -> str:
        """Return the summary as a LaTeX table, with the rules of the package booktabs.

        Parameters
        ----------
        metric : str
            A column of `table`.
        """
        found = self.summary(metric)
        shown = (found.rename_axis("method") if self.scored else found).reset_index()
        shown.columns = [str(name).replace("_", " ") for name in shown]
        latex: str = shown.to_latex(index=False, escape=True, float_format="%.3f")
        return latex

    def comparison(self, metric: str = "balanced_accuracy") -> Comparison | None:
        """Compare the adapter with source only, subject by subject.

        Returns None where source only was not run, or is the adapter itself.
        """
        baseline = next((m for m in self.methods if m.startswith(SOURCE_ONLY)), None)
        if baseline is None or self.method == baseline or not self.scored:
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
        own = self.table[self.table["method"] == self.method]
        first = own.iloc[0]
        seeds = ", ".join(map(str, self.description["seeds"]))
        options = self.description["options"]
        chosen = f"of {count(options['training.epochs'], 'epoch')}"
        chosen += epoch_in_words(options.get("training.epoch", "source"))
        selection = (
            f"last {chosen}"
            if first["selection"] == "last"
            else f"epoch {chosen} chosen by {first['selection']}"
        )
        start = self.description.get("initialisation")
        share = options.get("training.label_share", 1)
        labels = "" if share == 1 else f"labels of {share:.3g} of the source's trials; "
        given = self._calibration() + self._validation()
        skipped = f"skipped {first['skipped']}; " if first.get("skipped") else ""
        made = f" (made of: {first['made_of']})" if "made_of" in first else ""
        waived = f"leak checks waived: {first['waived']}; " if "waived" in first else ""
        alone = self._single_class()
        unscored = (
            f"no score for {', '.join(alone)} (a single class); " if alone else ""
        )
        onto = f", adapted to {first['target']}" if first.get("target") else ""
        device = self.description.get("device", "cpu")
        where = "" if device == "cpu" else f"on {device}; "
        controls = self._control_options() + self._adapting()
        scaled = (
            "probabilities scaled by held-out source domains (temperature); "
            if options.get("training.temperature", "none") != "none"
            else ""
        )
        return (
            f"{first['dataset']}{onto}, {first['modalities']}{made}; "
            f"{told_of_task(first.to_dict())}{self.method} on {first['backbone']}"
            f"{f', {start}' if start else ''}; {labels}"
            f"{first['protocol']}, "
            f"{count(self.table['fold'].nunique(), 'fold')}, {told_of_target(own)}; "
            f"{waived}{given}{skipped}{unscored}"
            f"{first['normalisation']}; {first['sampling']}; {selection}; "
            f"{scaled}seed {seeds}; {controls}{where}domainemo "
            f"{first['version']}. "
            + (_SCORED.format(level=self.level) if self.scored else _UNSCORED)
        )

    def _calibration(self) -> str:
        """Return how many labels of the target each fold was given, if any."""
        shown = self._a_fold("calibration")
        return shown and f"labels of the target given for calibration: {shown} a fold; "

    def _validation(self) -> str:
        """Return whom the protocol sets aside to choose the epoch by, if any."""
        shown = self._a_fold("validation")
        return shown and f"validation: {shown}; "

    def _a_fold(self, part: str) -> str:
        """Return how much of an optional part the folds have; nothing if none has."""
        if part not in self.table:
            return ""
        alike = in_order(self.table.drop_duplicates("fold")[part].unique())
        return " or ".join(alike) if len(alike) < 3 else f"{alike[0]} to {alike[-1]}"

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

    def _adapting(self) -> str:
        """Return which controls learned from the target's windows, if any."""
        trained = self.table["target_seen"].str.contains("seen in training", na=False)
        there = set(self.table["method"][trained])
        found = [name for name in self.controls if name in there]
        if not found:
            return ""
        return f"unlabelled windows of the target trained {', '.join(found)}; "

    def _single_class(self) -> list[str]:
        """Return the subjects of whom a single class was tested, who have no score."""
        if not self.scored:
            return []
        of_level = self.table[self.table["level"] == self.level]
        scored = of_level.groupby("subject", sort=False)["balanced_accuracy"].count()
        return [f"subject {subject}" for subject in scored.index[scored == 0]]


def _check_unscored(
    folder: Path, table: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    """Refuse tables of newcomers that are not of one kind, or of other classes."""
    if "label" in predictions:
        raise data_error(
            folder / "predictions.parquet",
            "labels, and distances of newcomers beside them",
            "no labels, as nobody knows any of newcomers",
            files.REMEDY,
        )
    classes, shares = (
        [name for name in map(str, columns) if name.startswith(start)]
        for columns, start in ((predictions, "p_"), (table, "share_"))
    )
    if [f"share_{name.removeprefix('p_')}" for name in classes] != shares:
        raise data_error(
            folder / "results.parquet",
            f"the columns {', '.join(shares) or 'of no class'}",
            f"a share of each class of the predictions, {', '.join(classes)}",
            files.REMEDY,
        )


def _check_finite(folder: Path, predictions: pd.DataFrame) -> None:
    """Refuse a run of an earlier version whose training diverged in silence."""
    columns = [name for name in predictions if str(name).startswith("p_")]
    bad = predictions[~np.isfinite(predictions[columns]).all(axis=1)]
    if len(bad):
        first = bad.iloc[0]
        raise RunError(
            f"{folder / 'predictions.parquet'}: the predictions of {first['method']} "
            f"in {first['fold']} are not all finite, so that its training diverged and "
            f"its figures mean nothing. Run it again, into a new folder."
        )


def _no_run(description: Mapping[str, Any]) -> str | None:
    """Return what else has a folder with such a configuration; None for a run."""
    if "study" in description:
        return "a study, whose final runs are in its folder `final`, each in its own"
    if "pairs" in description:
        return "a pre-training, which predicts nothing"
    if description.get("protocol") == "everyone":
        return (
            "a model of `domainemo train`, which tested nobody and has no results "
            "(`domainemo predict` applies it)"
        )
    return None


def write_results(folder: Path, results: Results) -> None:
    """Write the tables as Parquet and CSV."""
    tables = {"results": results.table, "predictions": results.predictions}
    if not results.scored:
        tables["trials"] = trial_predictions(results.predictions)
    if results.distances is not None:
        tables["distances"] = results.distances
    steps = results.over_time()
    if steps is not None:
        tables["online"] = steps
    for name, table in tables.items():
        write_table(folder, name, table)
    files.write_recorded(folder / "how.txt", results.how() + "\n")
