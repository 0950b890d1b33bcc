"""The one place where target labels meet predictions, after every model is final."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Fold, Rows
from ..parts import Part
from ..training.batches import majority_label
from .calibration import that_train
from .controls import control_name, control_probabilities, is_trained
from .distance import newcomers_distances
from .experiment import use_of
from .how import called, how_control, how_trained
from .job import Job
from .metrics import metrics
from .online import with_minutes
from .plan import Plan
from .record import Record, load_record
from .results import Results
from .unscored import describe_rows, with_changes

__all__ = ["collect", "oracle_epoch", "prediction_rows", "score_rows"]


def collect(
    planned: Plan, jobs: Sequence[Job], description: Mapping[str, Any]
) -> Results:
    """Join every job's predictions, and the controls', to the labels; score them.

    Where nobody knows a label, say instead what the predictions look like.

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
            epoch = oracle_epoch(planned, record)
            facts = {**record.facts, "epoch": epoch}
            record = replace(record, probabilities=record.trace[epoch - 1], facts=facts)
        members[job.fold.name], level = record.members, record.facts["level"]
        how = how_trained(planned, job, record)
        if not planned.scored:
            how |= _judged(record)
        _add(planned, how, record, level, scores, predictions)
    for fold in planned.folds:
        for control in chosen.controls:
            if not is_trained(control):
                record = _control_record(planned, fold, control, members[fold.name])
                how = how_control(planned, fold, control_name(control))
                _add(planned, how, record, level, scores, predictions)
    table = pd.DataFrame(scores).astype({"epoch": "Int64", "parameters": "Int64"})
    everything = pd.concat(predictions, ignore_index=True)
    return Results(
        table=table if planned.scored else with_changes(table, everything),
        predictions=everything,
        description=description,
        method=called(jobs[0], chosen),
        distances=None if planned.scored else newcomers_distances(planned),
    )


def _judged(record: Record) -> dict[str, float]:
    """Return what validators say of a network by itself, as columns of the table."""
    return {
        f"score_{name}": np.nan if said["score"] is None else said["score"]
        for name, said in record.facts.get("scores", {}).items()
        if "evidence" not in said  # which tells nothing without what it is compared to
    }


def _control_record(planned: Plan, fold: Fold, control: Part, members: Rows) -> Record:
    """Return what a control says of samples whose provenance alone it is shown."""
    chosen = planned.experiment
    labelled = planned.labelled(fold, chosen.seeds[0])
    labelled = labelled[that_train(labelled, fold, use_of(chosen))]
    probabilities = control_probabilities(
        control.build(),
        planned.inputs,
        chosen.build_normalisation(),
        fold,
        labelled,
        planned.labels[labelled],
        members,
        len(planned.classes),
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
    rows = prediction_rows(planned, record)
    keys = {key: how[key] for key in ("method", "fold", "seed")}
    if planned.experiment.protocol.build().causal:
        rows = with_minutes(rows, planned.windows, record.members)
    predictions.append(rows.assign(**keys))
    said = score_rows if planned.scored else describe_rows
    for subject, theirs in rows.groupby("subject"):
        for name, samples, values in said(theirs, level, planned.classes):
            scores.append(
                {**keys, "subject": subject, "level": name, "samples": samples}
                | values
                | {key: value for key, value in how.items() if key not in keys}
            )


def prediction_rows(planned: Plan, record: Record) -> pd.DataFrame:
    """Return a row per predicted sample: provenance, label, probabilities.

    Where nobody knows a label, the predicted class has its name, and not its number.

    Parameters
    ----------
    planned : Plan
    record : Record
        Of one finished job.
    """
    members = record.members
    windows = planned.windows.iloc[members[:, 0]].reset_index(drop=True)
    predicted = record.probabilities.argmax(1)
    known: dict[str, Any] = {"predicted": np.array(planned.classes)[predicted]}
    if planned.scored:
        labels = majority_label(members, planned.labels)
        known = {"label": labels, "predicted": predicted}
    probabilities = {
        f"p_{name}": record.probabilities[:, index]
        for index, name in enumerate(planned.classes)
    }
    return windows.assign(
        windows=(members >= 0).sum(1),
        **known,
        **probabilities,
    )


def score_rows(
    predictions: pd.DataFrame, level: str, classes: Sequence[str]
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
    classes : sequence of str
    """
    columns = [name for name in predictions.columns if name.startswith("p_")]
    probabilities = predictions[columns].to_numpy()
    labels = predictions["label"].to_numpy()
    yield level, len(labels), metrics(labels, probabilities)
    if level == "trial":
        return
    # Where a vote is tied, the more probable class wins, not the first.
    votes = np.eye(len(classes))[predictions["predicted"]] + 1e-6 * probabilities
    votes /= votes.sum(1, keepdims=True)
    codes = predictions.groupby(TRIAL, sort=True).ngroup().to_numpy()
    truth = _per_group(codes, np.eye(len(classes))[labels]).argmax(1)
    for name, values in (("trial", probabilities), ("trial, majority", votes)):
        averaged = _per_group(codes, values)
        yield name, len(truth), metrics(truth, averaged)


def oracle_epoch(planned: Plan, record: Record) -> int:
    """Return the epoch, from 1, whose predictions agree best with the test labels.

    This is what much of the field reports; here it is for diagnosis only.
    """
    labels = majority_label(record.members, planned.labels)
    # Of a single class, accuracy is its recall.
    rule = "balanced_accuracy" if len(np.unique(labels)) > 1 else "accuracy"
    scores = [metrics(labels, epoch)[rule] for epoch in record.trace]
    return int(np.argmax(scores)) + 1


def _per_group(
    codes: NDArray[np.integer], values: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the mean of `values` of shape (samples, classes) within each group."""
    sums = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums / np.bincount(codes)[:, None]
