"""The one place where target labels meet predictions, after every model is final."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import EmotionData, Fold, Rows
from ..parts import Part
from ..training.batches import majority_label
from .controls import control_name, control_probabilities, is_trained
from .how import called, how_control, how_trained
from .job import Job, Record, load_record
from .metrics import metrics
from .plan import Plan
from .results import Results

__all__ = ["collect", "oracle_epoch", "prediction_rows", "score_rows"]

_TRIAL = ["subject", "session", "trial"]


def collect(
    planned: Plan, jobs: Sequence[Job], description: Mapping[str, Any]
) -> Results:
    """Join every job's predictions, and the controls', to the labels; score them.

    Parameters
    ----------
    planned : Plan
    jobs : sequence of Job
        All finished.
    description : mapping
        The configuration, as in ``config.toml``.
    """
    scores: list[dict[str, Any]] = []
    predictions: list[pd.DataFrame] = []
    chosen = planned.experiment
    members: dict[str, Rows] = {}
    level = ""
    for job in jobs:
        record = load_record(Path(job.folder))
        if chosen.validator is None and job.adapter is not None:
            epoch = oracle_epoch(planned.data, record)
            facts = {**record.facts, "epoch": epoch}
            record = replace(record, probabilities=record.trace[epoch - 1], facts=facts)
        members[job.fold.name], level = record.members, record.facts["level"]
        how = how_trained(planned, job, record)
        _add(planned, how, record, level, scores, predictions)
    for fold in planned.folds:
        for control in chosen.controls:
            if not is_trained(control):
                record = _control_record(planned, fold, control, members[fold.name])
                how = how_control(planned, fold, control_name(control))
                _add(planned, how, record, level, scores, predictions)
    return Results(
        table=pd.DataFrame(scores).astype({"epoch": "Int64", "parameters": "Int64"}),
        predictions=pd.concat(predictions, ignore_index=True),
        description=description,
        method=called(jobs[0], chosen),
    )


def _control_record(planned: Plan, fold: Fold, control: Part, members: Rows) -> Record:
    """Return what a control says of samples whose provenance alone it is shown."""
    chosen, labelled = (
        planned.experiment,
        planned.labelled(fold, planned.experiment.seeds[0]),
    )
    probabilities = control_probabilities(
        control.build(),
        planned.data.inputs,
        chosen.build_normalisation(),
        fold,
        labelled,
        planned.data.labels[labelled],
        members,
        len(planned.data.classes),
    )
    nothing = np.empty((0, *probabilities.shape), dtype=np.float32)
    return Record(members, probabilities, nothing, {})


def _add(
    planned: Plan,
    how: dict[str, Any],
    record: Record,
    level: str,
    scores: list[dict[str, Any]],
    predictions: list[pd.DataFrame],
) -> None:
    rows = prediction_rows(planned.data, record)
    keys = {key: how[key] for key in ("method", "fold", "seed")}
    predictions.append(rows.assign(**keys))
    classes = len(planned.data.classes)
    for subject, theirs in rows.groupby("subject"):
        for name, samples, values in score_rows(theirs, level, classes):
            scores.append(
                {**keys, "subject": subject, "level": name, "samples": samples}
                | values
                | {key: value for key, value in how.items() if key not in keys}
            )


def prediction_rows(data: EmotionData, record: Record) -> pd.DataFrame:
    """Return a row per predicted sample: provenance, label, probabilities.

    Parameters
    ----------
    data : EmotionData
        All recordings, in canonical order.
    record : Record
        Of one finished job.
    """
    members = record.members
    windows = data.inputs.windows.iloc[members[:, 0]].reset_index(drop=True)
    labels = majority_label(members, data.labels)
    probabilities = {
        f"p_{name}": record.probabilities[:, index]
        for index, name in enumerate(data.classes)
    }
    return windows.assign(
        windows=(members >= 0).sum(1),
        label=labels,
        predicted=record.probabilities.argmax(1),
        **probabilities,
    )


def score_rows(
    predictions: pd.DataFrame, level: str, classes: int
) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield level, number of samples and metrics: per sample, and per trial.

    A trial's prediction is the mean of its samples' probabilities (``"trial"``), or
    their vote (``"trial, majority"``).

    Parameters
    ----------
    predictions : DataFrame
        Of one fold and one seed, from `prediction_rows`.
    level : str
        What one row is.
    classes : int
    """
    columns = [name for name in predictions.columns if name.startswith("p_")]
    probabilities = predictions[columns].to_numpy()
    labels = predictions["label"].to_numpy()
    yield level, len(labels), metrics(labels, probabilities)
    if level == "trial":
        return
    # Where a vote is tied, the more probable class wins, not the first.
    votes = np.eye(classes)[predictions["predicted"]] + 1e-6 * probabilities
    votes /= votes.sum(1, keepdims=True)
    codes = predictions.groupby(_TRIAL, sort=True).ngroup().to_numpy()
    truth = _per_group(codes, np.eye(classes)[labels]).argmax(1)
    for name, values in (("trial", probabilities), ("trial, majority", votes)):
        averaged = _per_group(codes, values)
        yield name, len(truth), metrics(truth, averaged)


def oracle_epoch(data: EmotionData, record: Record) -> int:
    """Return the epoch, from 1, whose predictions agree best with the test labels.

    This is what much of the field reports; here it is for diagnosis only.
    """
    labels = majority_label(record.members, data.labels)
    scores = [metrics(labels, epoch)["balanced_accuracy"] for epoch in record.trace]
    return int(np.argmax(scores)) + 1


def _per_group(
    codes: NDArray[np.integer], values: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the mean of `values` of shape (samples, classes) within each group."""
    sums = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums / np.bincount(codes)[:, None]
