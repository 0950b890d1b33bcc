"""What the data sets of the SEED family share: folders, files, one clock, raw EEG."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ....core import Modality
from ....errors import ConfigurationError, data_error
from ....values import Bounds
from ....words import count
from ...montage import SEED_BANDS, SEED_ELECTRODES
from ...reader import Recording, listing
from ...signals.features import band_power, differential_entropy
from ...signals.smoothing import linear_dynamic_system, moving_average

__all__ = [
    "NUMBERED_MEASURES",
    "RAW_RATE",
    "RELEASED_WINDOW",
    "Feature",
    "Source",
    "absent",
    "check_raw",
    "check_window",
    "computed_features",
    "data_set_folder",
    "eeg_modality",
    "eye_folder",
    "eye_modality",
    "feature_words",
    "on_one_clock",
    "smoothing_words",
    "span_of",
    "starts",
    "subject_files",
    "subject_recordings",
    "window_up_to",
]

Array = NDArray[Any]

Feature = Literal["de", "psd"]
Source = Literal["released", "computed"]

RELEASED_WINDOW = 4.0
"""Seconds in a window of all released features of SEED-IV, SEED-V and SEED-VII."""

RAW_RATE = 200
"""Of the preprocessed EEG of SEED-IV and SEED-VII, in Hz."""

NUMBERED_MEASURES = tuple(f"measure_{number}" for number in range(1, 34))
"""The 33 eye measures of SEED and SEED-V, the order of which is not documented."""

_SPAN = 5


def window_up_to(longest: float) -> Bounds:
    """Return how long a window may be, where the shortest clip is of this length."""
    words = (
        f"0.5 to {longest:g} s, because the slowest band starts at 1 Hz and the "
        f"shortest clip is short"
    )
    return Bounds(0.5, longest, words=words)


def check_window(data_set: str, window: float, source: Source, eye: bool) -> None:
    """Raise :class:`ConfigurationError` for a window that the features cannot have."""
    if window == RELEASED_WINDOW:
        return
    if source == "released":
        raise ConfigurationError(
            f"{data_set}: found window={window:g} with source='released'; expected 4 "
            f"s, the window of the released features. Choose source='computed' with "
            f"eye=False for windows of another length."
        )
    if eye:
        raise ConfigurationError(
            f"{data_set}: found window={window:g} with eye=True; expected 4 s, the "
            f"window of the released eye measures. Choose eye=False to read the EEG "
            f"alone."
        )


def absent(
    files: Iterable[tuple[int, str]], present: Iterable[tuple[int, str]]
) -> list[str]:
    """Return what is not there: a subject's number where all files are missing.

    Parameters
    ----------
    files : iterable of (int, str)
        Subject and name of every file of the full release.
    present : iterable of (int, str)
        Of those that are there.
    """
    there = set(present)
    missing: dict[int, list[str]] = {}
    for subject, name in files:
        if (subject, name) not in there:
            missing.setdefault(subject, []).append(name)
    some = {subject for subject, _ in there}
    return [
        what
        for subject, names in sorted(missing.items())
        for what in (names if subject in some else [f"subject {subject}"])
    ]


def data_set_folder(root: Path | None, name: str, part: str, home: str) -> Path:
    """Find a data set's folder: the root itself, or one below it of the set's name.

    Parameters
    ----------
    root : Path or None
    name : str
        Such as ``"SEED-IV"``; case, and ``-``, ``_`` or a blank, make no difference.
    part : str
        The folder that must lie in it.
    home : str
        Where the publisher offers the data set.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If there is none, or two.
    """
    expected = f"the folder {name}/ of the data set with {part}/ in it"
    remedy = f"Name its folder or the one above it; the data set comes from {home}."
    if root is None or not root.is_dir():
        raise data_error(root or name, listing(root), expected, remedy)
    if (root / part).is_dir():
        return root
    named = _folders_named(root, name)
    named += [inner for folder in named for inner in _folders_named(folder, name)]
    full = [folder for folder in named if (folder / part).is_dir()]
    if len(full) > 1:
        both = " and ".join(f"{folder.relative_to(root)}/" for folder in full)
        remedy = "Name the one that is meant."
        raise data_error(root, f"{part}/ in {both}", "it in one of them", remedy)
    if not full:
        looked = ", ".join(f"{folder.relative_to(root)}/{part}/" for folder in named)
        looked = f"{part}/, {looked or f'{name}/{part}/'}"
        found = f"none of {looked} ({listing(root)})"
        raise data_error(root, found, expected, remedy)
    return full[0]


def eye_folder(folder: Path, name: str) -> Path:
    """Return the folder of the eye measures.

    Raises
    ------
    DataError
        If there is none.
    """
    if not (folder / name).is_dir():
        raise data_error(
            folder,
            f"no folder {name}/ ({listing(folder)})",
            "the eye measures in it",
            "Add it, or read the EEG alone: --set data.eye=false.",
        )
    return folder / name


def subject_recordings(
    eeg: Mapping[int, Path],
    eyes: Mapping[int, Path] | None,
    folder: Path,
    session: int | None = None,
) -> list[Recording]:
    """Return the file, or the two, of each subject.

    Parameters
    ----------
    eeg, eyes : mapping of int to Path
        By subject; no eyes where the EEG is read alone.
    folder : Path
        Where those of the eyes lie.
    session : int, optional
        Of these files, where they hold one.

    Raises
    ------
    DataError
        If somebody has EEG without eye.
    """
    found = []
    for subject, path in eeg.items():
        files = {"eeg": path}
        if eyes is not None:
            if subject not in eyes:
                raise data_error(
                    folder,
                    f"no file of subject {subject}, whose EEG is there",
                    "a file of eye measures for each file of EEG",
                    "Add it, or read the EEG alone: --set data.eye=false.",
                )
            files["eye"] = eyes[subject]
        found.append(Recording(subject, files, session))
    return found


def subject_files(folder: Path, suffix: str, subjects: range) -> dict[int, Path]:
    """Return a folder's files by the subject's number, with which their names start.

    What follows the number (a date, or nothing) makes no difference; hidden files and
    those of other names are left alone.

    Raises
    ------
    DataError
        If there are two files of a subject, or a subject that the data set has not.
    """
    files: dict[int, Path] = {}
    pattern = re.compile(rf"0*(\d+)(\D.*)?\.{suffix}", re.IGNORECASE)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if not match:
            continue
        subject = int(match[1])
        if subject not in subjects:
            raise data_error(
                path,
                f"subject {subject} by the file's name",
                f"one of {subjects[0]} to {subjects[-1]}, the subject's number first",
                "Rename the file, or move it elsewhere.",
            )
        if subject in files:
            raise data_error(
                folder,
                f"two of subject {subject}: {files[subject].name} and {path.name}",
                "one file of each subject",
                "Move the one that is not meant elsewhere.",
            )
        files[subject] = path
    return dict(sorted(files.items()))


def on_one_clock(
    eeg: Array, eye: Array, where: str
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Cut EEG and eye to the shorter, both from the trial's onset.

    Parameters
    ----------
    eeg, eye : ndarray of shape (windows, channels, features)
    where : str
        The eye's file and key.

    Returns
    -------
    dict of str to ndarray
    tuple of str
        A note, where one was cut.

    Raises
    ------
    DataError
        If they differ by more than 2 windows: they are then not of one trial.
    """
    more = len(eye) - len(eeg)
    if abs(more) > 2:
        raise data_error(
            where,
            f"{len(eye)} windows of eye measures and {len(eeg)} of EEG",
            "numbers that differ by 2 at most",
            "Check that both files are of one subject and session.",
        )
    windows = min(len(eeg), len(eye))
    signals = {"eeg": eeg[:windows], "eye": eye[:windows]}
    if more == 0:
        return signals, ()
    longer, shorter = ("eye", "EEG") if more > 0 else ("EEG", "eye")
    amount = count(abs(more), "window")
    return signals, (f"{longer} cut by {amount} to the length of the {shorter}",)


def check_raw(recording: Array, where: str, shortest: float, longest: float) -> None:
    """Raise :class:`DataError` unless a raw trial has 62 channels and its length.

    Parameters
    ----------
    recording : ndarray
        Of shape (channels, samples), at 200 Hz.
    where : str
        The file and key.
    shortest, longest : float
        In seconds.
    """
    remedy = "Check that the file is the publisher's, and fetch it again."
    if recording.ndim != 2 or len(recording) != len(SEED_ELECTRODES):
        found = f"an array of shape {recording.shape}"
        expected = f"({len(SEED_ELECTRODES)}, samples)"
        raise data_error(where, found, expected, remedy)
    seconds = recording.shape[1] / RAW_RATE
    if not shortest <= seconds <= longest:
        expected = f"{shortest:g} to {longest:g} s at {RAW_RATE} Hz"
        raise data_error(where, f"{seconds:g} s", expected, remedy)
    if not np.isfinite(recording).all():
        lost = int((~np.isfinite(recording)).any(axis=0).sum())
        found = f"NaN or infinity in {lost} of {recording.shape[1]} samples"
        raise data_error(where, found, "finite values", remedy)


def computed_features(
    recording: Array, where: str, feature: str, smoothing: str, window: float
) -> Array:
    """Compute a trial's features from its raw EEG.

    Parameters
    ----------
    recording : ndarray of shape (62, samples)
        At 200 Hz.
    where : str
        The file and key.
    feature : {"de", "psd"}
    smoothing : {"lds", "moving-average", "none"}
    window : float
        In seconds.

    Returns
    -------
    ndarray of shape (windows, 62, 5)

    Raises
    ------
    DataError
        If the recording is shorter than a window.
    """
    if recording.shape[1] < round(window * RAW_RATE):
        found = f"{recording.shape[1] / RAW_RATE:g} s of signal"
        expected = f"at least one window of {window:g} s"
        raise data_error(where, found, expected, "Choose a shorter window.")
    compute = differential_entropy if feature == "de" else band_power
    features = compute(recording, RAW_RATE, SEED_BANDS, window)
    if smoothing == "lds":
        return linear_dynamic_system(features)
    return moving_average(features, _SPAN) if smoothing != "none" else features


def starts(windows: int, window: float) -> Array:
    """Return each window's seconds from the onset: windows hold whole samples."""
    return np.arange(windows) * (round(window * RAW_RATE) / RAW_RATE)


def eeg_modality(feature: str, source: str, span: float | None = None) -> Modality:
    """Describe the EEG; the unit of released features is not documented."""
    units = {"de": "nat", "psd": "ln(power/Hz)"}
    unit = units[feature] if source == "computed" else ""
    return Modality(SEED_ELECTRODES, tuple(SEED_BANDS), "eeg", unit, span)


def span_of(smoothing: str, source: str, window: float) -> float | None:
    """Return the seconds that a smoothed window is made of; see `Modality`.

    How far the released moving average reaches is not documented: at most, the trial.
    """
    if smoothing == "none":
        return None
    if smoothing == "moving-average" and source == "computed":
        return _SPAN * window
    return math.inf


def eye_modality(measures: Iterable[str]) -> Modality:
    """Describe the eye measures, one value each, of many units."""
    return Modality(tuple(measures), ("value",), "eye")


def feature_words(feature: str, source: str, raw: str) -> str:
    """Say what the features are and where they come from."""
    words = {"de": "differential entropy", "psd": "power spectral density"}[feature]
    if source == "released":
        return f"released {words}"
    filters = ", zero-phase filters that are not causal" * (feature == "de")
    return f"{words} computed from {raw}{filters}"


def smoothing_words(smoothing: str, source: str) -> str:
    """Say how features are smoothed, and whether that looks ahead."""
    if smoothing == "lds":
        return "smoothed by a linear dynamic system, which is not causal"
    if smoothing == "none":
        return "not smoothed"
    span = "of undocumented length"
    if source == "computed":
        span = f"of {_SPAN} windows, which is not causal"
    return f"smoothed by a moving average {span}"


def _folders_named(folder: Path, name: str) -> list[Path]:
    def plain(text: str) -> str:
        return re.sub(r"[-_ ]", "", text).lower()

    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    return [path for path in inside if plain(path.name) == plain(name)]
