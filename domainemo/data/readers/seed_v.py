"""SEED-V: five emotions, EEG and eye movements, from the published NumPy files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import Modality
from ...errors import DataError, data_error
from ...registry import register
from ...values import given_path
from ..files import read_pickled_npz
from ..montage import SEED_BANDS, SEED_ELECTRODES
from ..reader import Reader, Recording, Trial
from .shared.seed_family import (
    NUMBERED_MEASURES,
    RELEASED_WINDOW,
    absent,
    data_set_folder,
    eeg_modality,
    eye_folder,
    eye_modality,
    on_one_clock,
    starts,
    subject_files,
    subject_recordings,
)

__all__ = ["SEEDV"]

Array = NDArray[Any]

CLASSES = ("disgust", "fear", "sad", "neutral", "happy")
"""Class names in the order of the publisher's numbers, 0 to 4."""

SUBJECTS = range(1, 17)
TRIALS_PER_SESSION = 15
TRIALS = range(3 * TRIALS_PER_SESSION)
"""Keys in the files: session by session."""

LABELS = (
    "4 1 3 2 0 4 1 3 2 0 4 1 3 2 0",
    "2 1 3 0 4 4 0 3 2 1 3 4 1 2 0",
    "2 1 3 0 4 4 0 3 2 1 3 4 1 2 0",
)
"""Class of each trial, a line for each session."""

WINDOWS = (
    "18 24 59 46 36 64 74 17 66 35 43 43 58 60 38",
    "59 47 16 31 32 14 60 57 30 24 46 29 23 54 19",
    "72 16 41 22 13 59 21 18 57 71 55 29 51 32 44",
)
"""Windows of 4 s in each trial, from the clips' published starts and ends."""

_EEG_FOLDER = "EEG_DE_features"
_EYE_FOLDER = "Eye_movement_features"
_COLUMNS = {
    "eeg": len(SEED_ELECTRODES) * len(SEED_BANDS),
    "eye": len(NUMBERED_MEASURES),
}
_FETCH_AGAIN = "Check that the file is the publisher's, and fetch it again."


@register(name="seed-v")
class SEEDV(Reader):
    """Disgust, fear, sad, neutral, happy; EEG and eye of 16 subjects, 3 sessions.

    Source: BCMI laboratory, Shanghai Jiao Tong University, on request:
    https://bcmi.sjtu.edu.cn/home/seed/seed-v.html. Cite Liu W, Qiu J-L, Zheng W-L, Lu
    B-L (2022). Comparing recognition performance and robustness of multimodal deep
    learning models for multimodal emotion recognition. IEEE Transactions on Cognitive
    and Developmental Systems 14(2):715-729, doi 10.1109/TCDS.2021.3071170.

    ``eeg`` holds the released differential entropy of five bands at 62 electrodes in
    windows of 4 s, ``eye`` 33 measures, NaN where the file has NaN. Each of the 45
    trials has a clip of its own, numbered 1 to 45 as the stimulus: sessions share none.

    What to know before believing a figure:

    - Of 20 subjects recorded, 16 are released, whatever other loaders say.
    - The session is the set of clips that was watched; on which day, and in which
      order, differs between subjects.
    - The order of the eye columns is not documented: they are called ``measure_1`` to
      ``measure_33``. By their list, nine are statistics of events; in SEED-VII those
      are constant inside a clip and so tell the trial.
    - Whether the released features are smoothed is not documented.

    The 310 columns of a window are electrode by electrode, five bands each. Labels are
    in the EEG's file and in the eye's; both must be the published ones.

    Parameters
    ----------
    root : str or Path
        The data set's folder, or the data root above it, in which it may be called
        ``SEED-V``, ``SEED_V`` or the like.
    eye : bool
        False reads the EEG alone.

    Raises
    ------
    ConfigurationError
        If an option is not one of these.
    """

    home = "https://bcmi.sjtu.edu.cn/home/seed/seed-v.html"

    def __init__(self, root: str | Path | None, *, eye: bool = True) -> None:
        self.root = None if root is None else given_path("root", root)
        self.eye = eye
        self.classes = CLASSES

    def recordings(self) -> list[Recording]:
        """Find the file, or the two, of each subject.

        Raises
        ------
        DataError
            If there are none, two of a subject, or EEG without eye.
        """
        eyes = self._eye_files() if self.eye else None
        there = self._folder() / _EYE_FOLDER
        return subject_recordings(self._eeg_files(), eyes, there)

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield the 45 trials of a subject.

        Raises
        ------
        DataError
            If a file cannot be read at all, or does not hold these 45.
        """
        files = {name: _read(path) for name, path in recording.files.items()}
        for key in TRIALS:
            try:
                yield _trial(key, recording.files, files)
            except DataError as error:
                yield error

    def modalities(self) -> dict[str, Modality]:
        """Describe ``eeg`` (62 electrodes, 5 bands) and ``eye`` (33 measures)."""
        modalities = {"eeg": eeg_modality("de", "released")}
        if self.eye:
            modalities["eye"] = eye_modality(NUMBERED_MEASURES)
        return modalities

    def title(self) -> str:
        """Name the data set, the features and the window."""
        sensors = "EEG and eye movements" if self.eye else "EEG alone"
        return (
            f"seed-v (released differential entropy, its smoothing undocumented, 4 s "
            f"windows, {sensors})"
        )

    def release(self) -> str:
        """Say which part is read and how many of the released subjects there are."""
        part = _EEG_FOLDER + f" and {_EYE_FOLDER}" * self.eye
        count = len(self._eeg_files())
        return f"SEED-V, {part}; {count} of the {len(SUBJECTS)} released subjects"

    def missing(self) -> list[str]:
        """List the subjects that are not there, and single files of the others."""
        folders = {_EEG_FOLDER: self._eeg_files()}
        if self.eye:
            there = self._folder() / _EYE_FOLDER
            folders[_EYE_FOLDER] = subject_files(there, "npz", SUBJECTS)
        named = [
            (folder, subject, f"{folder}/{subject}_123.npz")
            for folder in folders
            for subject in SUBJECTS
        ]
        present = [(s, name) for folder, s, name in named if s in folders[folder]]
        return absent([(subject, name) for _, subject, name in named], present)

    def _folder(self) -> Path:
        return data_set_folder(self.root, "SEED-V", _EEG_FOLDER, self.home)

    def _eeg_files(self) -> dict[int, Path]:
        folder = self._folder() / _EEG_FOLDER
        files = subject_files(folder, "npz", SUBJECTS)
        if not files:
            raise data_error(
                folder,
                "no file of a subject",
                "1_123.npz to 16_123.npz",
                f"Unpack the publisher's archive here; it comes from {self.home}.",
            )
        return files

    def _eye_files(self) -> dict[int, Path]:
        folder = eye_folder(self._folder(), _EYE_FOLDER)
        return subject_files(folder, "npz", SUBJECTS)


# ---------------------------------------------------------------------------- trials

Entries = Mapping[str, Mapping[int, Any]]
"""A file: ``data`` and ``label``, each by the trial's key."""


def _trial(key: int, paths: Mapping[str, Path], files: Mapping[str, Entries]) -> Trial:
    session, number = divmod(key, TRIALS_PER_SESSION)
    label = int(LABELS[session].split()[number])
    arrays = {}
    for name, entries in files.items():
        arrays[name] = _windows(entries["data"][key], paths[name], key, _COLUMNS[name])
        _check_label(entries["label"][key], paths[name], key, label, len(arrays[name]))
    # The columns are electrode by electrode, with the bands inside.
    eeg = arrays["eeg"].reshape(-1, len(SEED_ELECTRODES), len(SEED_BANDS))
    published = int(WINDOWS[session].split()[number])
    if len(eeg) != published:
        raise data_error(
            f"{paths['eeg']}, key 'data', trial {key}",
            f"{len(eeg)} windows",
            f"{published}, the clip's length in windows of 4 s",
            _FETCH_AGAIN,
        )
    signals: dict[str, Array] = {"eeg": eeg}
    notes: tuple[str, ...] = ()
    if "eye" in arrays:
        where = f"{paths['eye']}, key 'data', trial {key}"
        signals, notes = on_one_clock(eeg, arrays["eye"][:, :, None], where)
    return Trial(
        session=session + 1,
        trial=number + 1,
        stimulus=key + 1,
        label=label,
        signals=signals,
        start=starts(len(signals["eeg"]), RELEASED_WINDOW),
        notes=notes,
    )


def _read(path: Path) -> Entries:
    entries = read_pickled_npz(path, ["data", "label"])
    return {name: _by_trial(entries[name], path, name) for name in ("data", "label")}


def _by_trial(entry: object, path: Path, name: str) -> dict[int, Any]:
    """Return a dictionary of the file with whole numbers as keys, 0 to 44."""
    expected = "a dictionary with a key for each trial, 0 to 44"
    if not isinstance(entry, Mapping):
        found = f"an object of type {type(entry).__name__}"
        raise data_error(f"{path}, key {name!r}", found, expected, _FETCH_AGAIN)
    # Some copies have keys of text, or of NumPy's own type.
    numbers = {key: _whole_number(key) for key in entry}
    if sorted(numbers.values()) != list(TRIALS):
        shown = ", ".join(map(repr, list(entry)[:6])) or "none"
        found = f"{len(entry)} keys: {shown}{' ...' * (len(entry) > 6)}"
        raise data_error(f"{path}, key {name!r}", found, expected, _FETCH_AGAIN)
    return {numbers[key]: value for key, value in entry.items()}


def _whole_number(key: object) -> int:
    """Return a key as a number, -1 where it is none."""
    if isinstance(key, str):
        return int(key) if key.isascii() and key.isdigit() else -1
    whole = isinstance(key, int | np.integer) and not isinstance(key, bool)
    return int(key) if whole else -1  # type: ignore[call-overload]


def _windows(value: object, path: Path, key: int, columns: int) -> Array:
    """Return a trial's array of shape (windows, columns)."""
    array = _numeric(value)
    if array is None or array.ndim != 2 or array.shape[1] != columns:
        raise data_error(
            f"{path}, key 'data', trial {key}",
            _described(value),
            f"an array of numbers of shape (windows, {columns})",
            _FETCH_AGAIN,
        )
    return array


def _check_label(value: object, path: Path, key: int, label: int, windows: int) -> None:
    """Raise unless every window of the trial has the published label."""
    where = f"{path}, key 'label', trial {key}"
    array = _numeric(value)
    if array is None or array.size != windows:
        expected = f"{windows} numbers, one for each window"
        raise data_error(where, _described(value), expected, _FETCH_AGAIN)
    if not (array == label).all():
        found = ", ".join(f"{each:g}" for each in np.unique(array))
        raise data_error(
            where,
            f"the label {found}",
            f"{label} ({CLASSES[label]}) in every window, as published",
            f"The trials are in another order, or mixed up. {_FETCH_AGAIN}",
        )


def _numeric(value: object) -> Array | None:
    if not isinstance(value, np.ndarray | list | tuple):
        return None
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "iuf" else None


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return f"an object of type {type(value).__name__}"
