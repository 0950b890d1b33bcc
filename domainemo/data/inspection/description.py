"""What a data set holds, counted: subjects, trials, classes, lengths, gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...core import TRIAL, EmotionData
from ..labels import check_trials

__all__ = [
    "ClassSummary",
    "Description",
    "Duration",
    "ModalitySummary",
    "SubjectSummary",
    "describe",
]


@dataclass(frozen=True)
class Duration:
    """Length of trials in seconds."""

    mean: float
    shortest: float
    longest: float


@dataclass(frozen=True)
class ClassSummary:
    """How much there is of a class.

    Attributes
    ----------
    name : str
    windows, trials : int
    duration : Duration or None
        None where there is no such trial, or no trial has a second window.
    """

    name: str
    windows: int
    trials: int
    duration: Duration | None


@dataclass(frozen=True)
class ModalitySummary:
    """What one sensor holds.

    Attributes
    ----------
    name, kind, unit : str
    channels, features : int
    lost : float
        Share of windows with NaN alone.
    missing : float
        Share of values that are NaN; those of lost windows count.
    """

    name: str
    kind: str
    unit: str
    channels: int
    features: int
    lost: float
    missing: float


@dataclass(frozen=True)
class SubjectSummary:
    """How much there is of a subject.

    Attributes
    ----------
    subject : str
    sessions, trials, windows : int
    classes : tuple of int
        Windows of each class.
    missing : tuple of float
        Share of values that are NaN, by modality.
    """

    subject: str
    sessions: int
    trials: int
    windows: int
    classes: tuple[int, ...]
    missing: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """What :func:`describe` counted.

    Attributes
    ----------
    name : str
    sessions, trials, windows : int
        Over all subjects.
    step : float or None
        Seconds from a window to the next, the median; None where no trial has two.
    classes : tuple of ClassSummary
    modalities : tuple of ModalitySummary
    subjects : tuple of SubjectSummary
    durations : tuple of tuple of float
        Seconds of each trial, by class, for figures.
    length_alone : float or None
        Balanced accuracy on each subject's trials of guessing the class of the other
        subjects' trials whose length is nearest; None where there is one subject.
    """

    name: str
    sessions: int
    trials: int
    windows: int
    step: float | None
    classes: tuple[ClassSummary, ...]
    modalities: tuple[ModalitySummary, ...]
    subjects: tuple[SubjectSummary, ...]
    durations: tuple[tuple[float, ...], ...]
    length_alone: float | None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What should be known before a model is believed."""
        remarks = []
        present = [each for each in self.classes if each.trials]
        means = [each.duration.mean for each in present if each.duration]
        if means and self.step and max(means) - min(means) > self.step:
            remarks.append(
                f"The mean length of a trial differs between classes, from "
                f"{min(means):.0f} to {max(means):.0f} s: a model that sees whole "
                f"trials can tell something of the class from the length."
            )
        chance = 1 / max(len(present), 1)
        if self.length_alone is not None and self.length_alone > chance + 0.1:
            remarks.append(
                f"A trial's length alone tells the class of an unseen subject's trials "
                f"with a balanced accuracy of {self.length_alone:.0%} (chance: "
                f"{chance:.0%}). Hide the length with --sampling sequences, or compare "
                f"with the control 'clip duration only'."
            )
        return tuple(remarks)

    def record(self) -> dict[str, Any]:
        """Return everything but single trials as plain values, for JSON."""
        plain = asdict(self)
        del plain["durations"]
        return {**plain, "remarks": list(self.remarks)}


def describe(data: EmotionData) -> Description:
    """Count what there is.

    A trial lasts from its first window to the end of its last one, taking a window to
    be as long as the step to the next.

    Parameters
    ----------
    data : EmotionData

    Returns
    -------
    Description

    Raises
    ------
    DataError
        If labels change within a trial, so that it is of no class.
    """
    check_trials(data)
    windows = data.inputs.windows.assign(label=data.labels)
    step = _step(windows)
    trials = _durations(windows, step)
    nan = {name: np.isnan(array) for name, array in data.inputs.signals.items()}
    return Description(
        name=data.inputs.name,
        sessions=windows.groupby(["subject", "session"]).ngroups,
        trials=windows.groupby(TRIAL).ngroups,
        windows=len(windows),
        step=step,
        classes=tuple(
            _class_summary(name, windows[windows["label"] == label], trials, label)
            for label, name in enumerate(data.classes)
        ),
        modalities=tuple(
            ModalitySummary(
                name=name,
                kind=modality.kind,
                unit=modality.unit,
                channels=len(modality.channels),
                features=len(modality.features),
                lost=float(nan[name].all(axis=(1, 2)).mean()),
                missing=float(nan[name].mean()),
            )
            for name, modality in data.inputs.modalities.items()
        ),
        subjects=tuple(_subject_summaries(windows, nan, len(data.classes))),
        durations=tuple(
            tuple(trials["seconds"][trials["label"] == label].dropna().tolist())
            for label in range(len(data.classes))
        ),
        length_alone=_length_alone(windows),
    )


def _step(windows: pd.DataFrame) -> float | None:
    """Return the usual distance of successive windows in seconds."""
    ordered = windows.sort_values([*TRIAL, "start"])
    gaps = ordered.groupby(TRIAL)["start"].diff().dropna()
    # Starts that were summed up differ in the last digits.
    return round(float(gaps.median()), 6) if len(gaps) else None


def _durations(windows: pd.DataFrame, step: float | None) -> pd.DataFrame:
    """Return each trial's class and seconds; NaN where the step is unknown."""
    starts = windows.groupby([*TRIAL, "label"])["start"].agg(["min", "max"])
    trials = starts.reset_index()
    trials["seconds"] = (
        trials["max"] - trials["min"] + (np.nan if step is None else step)
    )
    return trials


def _class_summary(
    name: str, windows: pd.DataFrame, trials: pd.DataFrame, label: int
) -> ClassSummary:
    seconds = trials["seconds"][trials["label"] == label]
    known = seconds.dropna()
    duration = None
    if len(known):
        ends = float(known.min()), float(known.max())
        duration = Duration(float(known.mean()), *ends)
    return ClassSummary(name, len(windows), len(seconds), duration)


def _subject_summaries(
    windows: pd.DataFrame, nan: Mapping[str, NDArray[np.bool_]], classes: int
) -> Iterator[SubjectSummary]:
    for subject, rows in windows.groupby("subject").indices.items():
        own = windows.iloc[rows]
        yield SubjectSummary(
            subject=str(subject),
            sessions=own["session"].nunique(),
            trials=own.groupby(TRIAL).ngroups,
            windows=len(own),
            classes=tuple(np.bincount(own["label"], minlength=classes).tolist()),
            missing=tuple(float(array[rows].mean()) for array in nan.values()),
        )


def _length_alone(windows: pd.DataFrame) -> float | None:
    """Score the guess of a trial's class from the trials of others of nearest length.

    This is the control "clip duration only" across subjects, over whole trials.
    """
    by_trial = windows.groupby(TRIAL)["label"]
    trials = by_trial.agg(["first", "size"]).reset_index()
    subjects, labels = trials["subject"].to_numpy(), trials["first"].to_numpy()
    lengths = trials["size"].to_numpy()
    if len(np.unique(subjects)) < 2:
        return None
    right = np.zeros(len(trials), dtype=np.bool_)
    for subject in np.unique(subjects):
        others = subjects != subject
        guess: dict[int, int] = {}
        for row in np.flatnonzero(~others):
            length = int(lengths[row])
            if length not in guess:
                distance = np.abs(lengths[others] - length)
                nearest = labels[others][distance == distance.min()]
                guess[length] = int(np.bincount(nearest).argmax())
            right[row] = guess[length] == labels[row]
    return float(np.mean([right[labels == label].mean() for label in set(labels)]))
