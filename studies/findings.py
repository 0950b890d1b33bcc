"""What a study found: its candidates, what was chosen, and what that was worth."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from ..data.files.limits import parse_json
from ..errors import ConfigurationError
from ..files import is_expected, read
from ..runs.folder import (
    folder_name,
    read_csv,
    read_json,
    read_stored_config,
    read_tables,
    rerun,
)
from ..runs.results import Results
from ..words import count
from .drawing import in_words
from .integrity import check_file, check_studies, explained
from .sampling import RETRY_OF
from .settings import is_kind
from .space import range_of
from .storage import OPTIONS, WORKER, address_of, open_storage, quiet, reason_of

__all__ = [
    "Choice",
    "DEFAULTS",
    "Findings",
    "REPEATED",
    "SOURCE_ONLY_CANDIDATE",
    "TUNED",
    "chosen_file",
    "compared",
    "load_findings",
    "outcomes",
]

FINAL = "final"
"""The folder of the final runs, in a study's."""

SCORES = "scores"
"""The attribute that holds what each fold of a candidate scored."""

SOURCE_ONLY_SCORES = "source_only"
"""The attribute of an Optuna study that holds what source only scored."""

REPEATED = "failed and tried again"
"""What became of a candidate whose process was killed, and that another repeats."""

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

STUDY = "study.json"
"""The file that names the recordings, and each Optuna study."""

CHOICES = "choices.json"
"""The file that holds what was chosen."""

AFTER_THE_FACT = "after-the-fact.csv"
"""The file that holds what every candidate was worth, computed last."""

STORAGE_VARIABLE = "DOMAINEMO_STORAGE"
"""The environment variable for an address with a password, which no file holds."""

TUNED = "tuned"
"""The name under which the chosen configuration stands in the final table."""

DEFAULTS = "defaults"
"""The name of the configuration that the study began with."""

SOURCE_ONLY_CANDIDATE = -1
"""In place of a candidate's number: the network without adaptation."""


@dataclass(frozen=True)
class Choice:
    """A configuration that was chosen without the labels that it is tested by.

    Attributes
    ----------
    fold : str or None
        The fold that it is for; None where one choice serves all.
    candidate : int
        Its number in the Optuna study; -1 where source only won.
    value : float
        The validator's score, averaged over the folds that chose.
    options : mapping of str to value
        What was searched, by full name, such as ``{"adapter.marginal": 0.3}``.
    command : str
        Runs it.
    standing : mapping of int to float
        What it was chosen by, of every candidate that could be, source only as -1: the
        score, or how each stands among the others where the validator compares them.
    """

    fold: str | None
    candidate: int
    value: float
    options: Mapping[str, Any]
    command: str
    standing: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """Everything a study holds.

    What Optuna calls a trial is called a candidate here, since a trial is a stretch of
    a recording in this field.

    Attributes
    ----------
    folder : Path
    name : str
    recordings : str
        What they are, in words.
    description : mapping
        The configuration, as in ``config.toml``.
    studies : mapping of str to optuna.Study
        By the fold that it is for; ``""`` where one study chooses for all folds.
    candidates : DataFrame
        A row per candidate: ``study``, ``candidate`` (number), ``default`` (whether
        it is the configuration that the study began with), ``state`` (``"complete"``,
        ``"pruned"``, ``"failed"``, ``"running"``, ``"waiting"``), ``value`` (of the
        first objective), ``standing`` (what it was chosen by, see `Choice`; NaN where
        it could not be), a column for each further objective, ``reason`` (why it
        ended, or could not be chosen), ``retry_of``, ``seconds``, ``began``,
        ``worker``, and a column for each searched option by its full name.
    scores : DataFrame
        A row per candidate, fold and seed that was trained: ``study``, ``candidate``,
        ``fold``, ``seed``, ``epoch``, ``score`` (the validator's), ``source_accuracy``
        (on held-out source domains), ``seconds``, and ``true_accuracy``, the balanced
        accuracy on the fold's target, computed after the fact.
    choices : list of Choice
        Empty where nothing could be chosen yet.
    final : Results or None
        The chosen configuration, the defaults and the baselines with fresh seeds on
        folds that had no part in choosing; None where that has not been run.
    calibrated : bool
        Whether labels of a target were given on purpose, for calibration.
    """

    folder: Path
    name: str
    recordings: str
    description: Mapping[str, Any]
    studies: Mapping[str, optuna.Study]
    candidates: pd.DataFrame
    scores: pd.DataFrame
    choices: list[Choice]
    final: Results | None
    calibrated: bool = False

    def __repr__(self) -> str:
        """Say what was searched and how far; the tables have the numbers."""
        tried = count(len(self.candidates), "candidate")
        final = "not run" if self.final is None else repr(self.final)
        return (
            f"Findings({self.name!r} in {self.folder}; {self.recordings}; {tried}, "
            f"{count(len(self.choices), 'choice')}; final: {final})"
        )

    @property
    def best(self) -> Choice | None:
        """The choice with the highest score; None where nothing was chosen."""
        return max(self.choices, key=lambda each: each.value, default=None)


def load_findings(folder: Path, storage: str | None = None) -> Findings:
    """Read what a study holds so far.

    Parameters
    ----------
    folder : Path
        The study's.
    storage : str, optional
        The storage's address, where it is not in the study's folder; else the
        environment's DOMAINEMO_STORAGE. It is read and never written to. An address
        that only the folder names is not opened, since a folder may name any place.

    Raises
    ------
    ConfigurationError
        If the folder is no study's, or its storage cannot be opened.
    """
    description = read_stored_config(folder)
    path = folder / STUDY
    begun = is_expected(path)
    if "study" not in description or not begun:
        raise ConfigurationError(
            f"{folder}: found no study; expected the folder of a `domainemo tune`."
        )
    facts = read_json(path, studies=dict, recordings=str)
    address = _address(folder, description["study"].get("storage"), storage)
    check_file(address)
    with quiet(), explained(address):
        opened = open_storage(address, read_only=True)
        studies = {
            key: optuna.load_study(study_name=name, storage=opened)
            for key, name in facts["studies"].items()
        }
        check_studies(address, studies, facts.get("candidates"))
    ranges = description.get("space", {})
    description["space"] = {k: in_words(range_of(k, v)) for k, v in ranges.items()}
    objectives = description["study"]["objectives"]
    final = _final(folder)
    choices = _choices(folder, description.get("plugins", ()))
    # A study of an earlier version noted nothing; its final table shows it.
    noted = bool(facts.get("calibration", False))
    return Findings(
        folder=folder,
        name=str(description["study"]["name"]),
        recordings=facts["recordings"],
        description=description,
        studies=studies,
        candidates=_candidates(studies, objectives, list(ranges), choices),
        scores=_scores(studies, folder),
        choices=choices,
        final=final,
        calibrated=noted or (final is not None and "calibration" in final.table),
    )


def _address(folder: Path, kept: object, given: str | None) -> str:
    """Return which storage is opened: the folder's own, or one that was named."""
    if given is None and not is_kind(kept):
        given = os.environ.get(STORAGE_VARIABLE)
        if not given:
            raise ConfigurationError(
                f"{folder}: this study says that it is kept at {kept!r}, which was not "
                f"opened, since a folder may name any place. If that is yours, name "
                f"it, with its password if it has one; or set the environment variable "
                f"{STORAGE_VARIABLE}:\n"
                + shlex.join(["domainemo", "report", str(folder), f"--storage={kept}"])
            )
    return address_of(folder, given if given is not None else str(kept or "sqlite"))


def _candidates(
    studies: Mapping[str, optuna.Study],
    objectives: Sequence[str],
    names: Sequence[str],
    choices: Sequence[Choice],
) -> pd.DataFrame:
    rows = []
    known = {each.fold or "": each.standing for each in choices}
    for key, study in studies.items():
        standing = known.get(key, {})
        for trial in study.get_trials(deepcopy=False):
            attributes = trial.user_attrs
            values = trial.values or [math.nan] * len(objectives)
            options = attributes.get(OPTIONS, trial.params)
            seconds = trial.duration.total_seconds() if trial.duration else math.nan
            rows.append(
                {
                    "study": key,
                    "candidate": trial.number,
                    "default": bool(attributes.get("default", False)),
                    "state": _STATES[trial.state],
                    "value": values[0] if _is_complete(trial) else math.nan,
                    "standing": standing.get(trial.number, math.nan),
                    **dict(zip(objectives[1:], values[1:], strict=True)),
                    "reason": _reason(trial, standing),
                    "retry_of": attributes.get(RETRY_OF),
                    "seconds": seconds,
                    "began": trial.datetime_start,
                    "worker": str(attributes.get(WORKER, "")),
                    **{name: options.get(name) for name in names},
                }
            )
    columns = ["study", "candidate", "default", "state", "value", "standing"]
    columns += [
        *objectives[1:],
        "reason",
        "retry_of",
        "seconds",
        "began",
        "worker",
        *names,
    ]
    # The objective `seconds` is a column there is already.
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))
    return table.astype({"retry_of": "Int64"})


def _reason(trial: FrozenTrial, standing: Mapping[int, float]) -> str:
    """Return why a candidate ended, or could not be chosen; empty where it could."""
    if _is_complete(trial) and standing and trial.number not in standing:
        return (
            "collapsed: it never predicts some class, is no better than chance on "
            "held-out source subjects, or its output is not finite somewhere"
        )
    return reason_of(trial)


def compared(studies: Mapping[str, optuna.Study]) -> bool:
    """Return whether candidates were chosen by comparing them with one another."""
    return any(
        "evidence" in score
        for study in studies.values()
        for trial in study.get_trials(deepcopy=False)
        for score in trial.user_attrs.get(SCORES, ())
    )


def _scores(studies: Mapping[str, optuna.Study], folder: Path) -> pd.DataFrame:
    rows = []
    for key, study in studies.items():
        by_candidate = {
            trial.number: trial.user_attrs.get(SCORES, ())
            for trial in study.get_trials(deepcopy=False)
        }
        by_candidate[SOURCE_ONLY_CANDIDATE] = study.user_attrs.get(
            SOURCE_ONLY_SCORES, ()
        )
        for number, scores in by_candidate.items():
            rows += [{"study": key, "candidate": number, **each} for each in scores]
    keys = ["study", "candidate", "fold", "seed"]
    columns = [*keys, "epoch", "score", "source_accuracy", "seconds"]
    table = pd.DataFrame(rows, columns=columns)
    table["source_accuracy"] = table["source_accuracy"].astype(float)
    path = folder / AFTER_THE_FACT
    if not is_expected(path):
        return table.assign(true_accuracy=math.nan)
    known = read_csv(path, keep_default_na=False, na_values={"true_accuracy": ""})
    return table.merge(known, on=keys, how="left")


def chosen_file(folder: Path, fold: str | None) -> Path:
    """Return the configuration file of a study's choice, for a fold or for all."""
    return folder / (f"chosen-{folder_name(fold)}.toml" if fold else "chosen.toml")


def outcomes(candidates: pd.DataFrame) -> pd.Series[Any]:
    """Return what became of each candidate: its state, or that it was tried again.

    Parameters
    ----------
    candidates : DataFrame
        As :class:`Findings` has them.
    """
    keys = pd.MultiIndex.from_frame(candidates[["study", "candidate"]])
    retried = candidates[["study", "retry_of"]].dropna()
    again = keys.isin(pd.MultiIndex.from_frame(retried))
    return candidates["state"].mask(again & (candidates["state"] == "failed"), REPEATED)


def _choices(folder: Path, plugins: Sequence[str]) -> list[Choice]:
    path = folder / CHOICES
    if not is_expected(path):
        return []
    choices = read(path, lambda content: [*map(_choice, parse_json(content))])
    # The command is to be pasted, so it is made here and not believed.
    return [
        replace(each, command=rerun(chosen_file(folder, each.fold), plugins))
        for each in choices
    ]


def _choice(stored: Mapping[str, Any]) -> Choice:
    standing = {int(k): float(v) for k, v in stored.get("standing", {}).items()}
    return Choice(**{**stored, "standing": standing})


def _final(folder: Path) -> Results | None:
    path = folder / FINAL
    results = path / "results.parquet"
    if not is_expected(results):
        return None
    table, predictions = read_tables(path)
    description = read_stored_config(path / DEFAULTS)
    return Results(table, predictions, description, TUNED)


def _is_complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE
