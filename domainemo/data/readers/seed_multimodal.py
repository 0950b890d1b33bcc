"""SEED_Multimodal: the 12 subjects of SEED whose eyes were tracked as well."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import Modality
from ...errors import ConfigurationError, DataError, data_error
from ...registry import register
from ...values import given_path
from ..files import read_pickle, read_pickled_npz
from ..montage import SEED_BANDS, SEED_ELECTRODES
from ..reader import Reader, Recording, Trial
from .seed import CLASSES, LABELS, SECONDS, absent_sessions, find_folder
from .shared.seed_family import NUMBERED_MEASURES, eye_modality

__all__ = ["SEEDMultimodal"]

Array = NDArray[np.floating]

SUBJECTS = (1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14)
"""As the files number them; SEED's subjects 6, 7 and 15 have no eye movements."""

_SESSIONS = (1, 2, 3)
_PARTS = {"train": range(1, 10), "test": range(10, 16)}
_EYE_WINDOW = 4.0
_EEG_FOLDERS = {4.0: "eeg_used_4s", 1.0: "eeg_used_1s"}
_EEG_ABOVE = "02-EEG-DE-feature"
_EYE_FOLDER = "04-Eye-tracking-feature/eye_tracking_feature"
_PARENTS = (
    "",
    "Chinese",
    "SEED_Multimodal/Chinese",
    "SEED/SEED_Multimodal/Chinese",
)
_EEG_FILE = re.compile(r"(\d+)_(\d+)\.npz")
_EYE_FILE = re.compile(r"(\d+)_(\d+)")
_HOME = "https://bcmi.sjtu.edu.cn/home/seed/seed.html"
_FETCH_AGAIN = f"Fetch the file again from {_HOME}."


@register(name="seed-multimodal")
class SEEDMultimodal(Reader):
    """Negative, neutral or positive film clips; EEG and eye movements of 12 subjects.

    Source: BCMI laboratory, Shanghai Jiao Tong University, on request,
    https://bcmi.sjtu.edu.cn/home/seed/seed.html, folder ``SEED_Multimodal/Chinese``;
    for academic research only, not to be passed on. Cite Lu Y, Zheng W-L, Li B, Lu B-L
    (2015). Combining eye movements and EEG to enhance emotion recognition, IJCAI
    1170-1176, and Zheng W-L, Lu B-L (2015), doi 10.1109/TAMD.2015.2431497. Subjects are
    numbered as in SEED, 1-5 and 8-14, in 3 sessions of the same 15 clips.

    ``eeg`` holds the released differential entropy of five bands at 62 electrodes
    (``02-EEG-DE-feature``); ``eye`` 33 measures of each 4-s window
    (``04-Eye-tracking-feature``): pupil diameter, dispersion, fixations, blinks,
    saccades, and statistics of events. They are called ``measure_1`` to
    ``measure_33``, as the order of the columns is not documented. Their scales differ
    by orders of magnitude.

    The files hold windows one after another, trials 1-9 as ``train`` and 10-15 as
    ``test``, without the trials' boundaries. These are rebuilt from the clips' lengths
    (a clip of T seconds has T // 4 windows of 4 s), which add up to the numbers of
    windows in the files, and each trial's stored labels are checked against the
    published ones. The split into training and test is left to the protocol.

    Three things to know before believing a figure:

    - The same 15 clips are shown in every session, and the label is a function of the
      clip: in a transfer between subjects or sessions the stimuli of training and test
      are the same ones.
    - Nine of the eye's measures are statistics of events, which in SEED-VII are
      constant throughout a clip. If so here, they are the trial's fingerprint.
    - Whether and how the features were smoothed is not documented.

    Parameters
    ----------
    root : str or Path
        The data root, or its folder ``SEED``, ``SEED_Multimodal`` or ``Chinese``.
    window : float
        Length of an EEG window in seconds, 4 or 1. The eye was released in windows of
        4 s: with 1-s windows each of them is repeated for the four seconds that it
        covers, and the seconds after a trial's last whole one are NaN.

    Raises
    ------
    ConfigurationError
        If the window is neither.
    """

    home = _HOME

    def __init__(self, root: str | Path | None, *, window: float = 4.0) -> None:
        if window not in _EEG_FOLDERS:
            raise ConfigurationError(
                f"seed-multimodal: found window={window!r}; expected 4 or 1 s, the "
                f"lengths of the released windows."
            )
        self.root = None if root is None else given_path("root", root)
        self.window = float(window)
        self.classes = CLASSES

    def recordings(self) -> list[Recording]:
        """Find each session's two files.

        Raises
        ------
        DataError
            If there are none, or one is of a subject or session that does not exist.
        """
        eeg = _by_session(self._eeg_folder(), _EEG_FILE)
        eye = _by_session(self._eye_folder(), _EYE_FILE)
        found = []
        for subject, session in sorted({*eeg, *eye}):
            both = {"eeg": eeg, "eye": eye}
            files = {
                name: paths[subject, session]
                for name, paths in both.items()
                if (subject, session) in paths
            }
            found.append(Recording(subject, files, session))
        return found

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield the 15 trials of a session, or the error in place of one.

        Raises
        ------
        DataError
            If one of the two files is not there, cannot be read, or holds another
            number of windows.
        """
        assert recording.session is not None
        _check_pair(recording)
        eeg, eye = recording.files["eeg"], recording.files["eye"]
        stored = read_pickled_npz(
            eeg, [f"{part}_{what}" for part in _PARTS for what in ("data", "label")]
        )
        measures = _mapping(read_pickle(eye), str(eye))
        for part, numbers in _PARTS.items():
            labels, label_key = stored[f"{part}_label"], f"{eeg}, {part}_label"
            labels_of = _cut(np.ravel(labels), label_key, numbers, self.window)
            eeg_of = self._eeg(stored[f"{part}_data"], f"{eeg}, {part}_data", numbers)
            eye_of = _eye(measures, eye, f"{part}_data_eye", numbers)
            for number in numbers:
                yield _wrong_label(labels_of[number], label_key, number) or self._trial(
                    recording.session, number, eeg_of[number], eye_of[number]
                )

    def modalities(self) -> dict[str, Modality]:
        """Describe ``eeg``, 62 electrodes with five bands, and ``eye``, 33 measures."""
        return {
            "eeg": Modality(SEED_ELECTRODES, tuple(SEED_BANDS), "eeg"),
            # Of each 4 s once, whatever the EEG's windows: repeated in shorter ones.
            "eye": replace(
                eye_modality(NUMBERED_MEASURES), span=4.0 if self.window < 4 else None
            ),
        }

    def title(self) -> str:
        """Name the features and the window."""
        return (
            f"seed-multimodal (SEED_Multimodal, Chinese: EEG differential entropy and "
            f"eye movements as released, {self.window:g} s windows)"
        )

    def release(self) -> str:
        """Name the part of SEED that is read: the publisher's folders."""
        eeg, eye = self._eeg_folder().name, self._eye_folder().name
        return f"SEED_Multimodal, {eeg} and {eye}"

    def missing(self) -> list[str]:
        """List subjects and sessions that are not there."""
        return absent_sessions(self.recordings(), SUBJECTS)

    def _eeg_folder(self) -> Path:
        return self._folder(
            f"{_EEG_ABOVE}/{_EEG_FOLDERS[self.window]}",
            _EEG_FILE,
            "<subject>_<session>.npz",
        )

    def _eye_folder(self) -> Path:
        return self._folder(_EYE_FOLDER, _EYE_FILE, "<subject>_<session>")

    def _folder(self, name: str, files: re.Pattern[str], pattern: str) -> Path:
        places = [f"{above}/{name}".strip("/") for above in _PARENTS]
        return find_folder("seed-multimodal", self.root, places, files, pattern, _HOME)

    def _eeg(self, bands: Any, where: str, numbers: range) -> dict[int, Array]:
        """Return the EEG (windows, electrodes, bands) of each trial of a part."""
        held = _mapping(bands, where)
        by_band = [
            _cut(
                _table(held, band, where, len(SEED_ELECTRODES)),
                f"{where}, {band}",
                numbers,
                self.window,
            )
            for band in SEED_BANDS
        ]
        return {n: np.stack([each[n] for each in by_band], axis=-1) for n in numbers}

    def _trial(self, session: int, number: int, eeg: Array, eye: Array) -> Trial:
        repeats = round(_EYE_WINDOW / self.window)
        notes: tuple[str, ...] = ()
        if repeats > 1:
            notes = ("each 4 s eye window repeated for the EEG windows in it",)
        if np.isnan(eye).any():
            notes = (*notes, "NaN among the eye's measures as released")
        on_clock = np.full((len(eeg), len(NUMBERED_MEASURES), 1), np.nan)
        on_clock[: len(eye) * repeats, :, 0] = np.repeat(eye, repeats, axis=0)
        return Trial(
            session=session,
            trial=number,
            stimulus=number,
            label=LABELS[number - 1],
            signals={"eeg": eeg, "eye": on_clock},
            start=np.arange(len(eeg)) * self.window,
            notes=notes,
        )


# --------------------------------------------------------------------------- files


def _by_session(folder: Path, files: re.Pattern[str]) -> dict[tuple[int, int], Path]:
    """Return a folder's files by subject and session, as their names count them."""
    found: dict[tuple[int, int], Path] = {}
    for path in sorted(folder.iterdir()):
        match = files.fullmatch(path.name)
        if not match:
            continue
        place = int(match[1]), int(match[2])
        if place[0] not in SUBJECTS or place[1] not in _SESSIONS or place in found:
            raise data_error(
                folder,
                path.name,
                "one file for each of sessions 1-3 of subjects 1-5 and 8-14",
                "Remove the file.",
            )
        found[place] = path
    return found


def _check_pair(recording: Recording) -> None:
    """Raise where a session has only one of its two files."""
    if len(recording.files) == 1:
        ((name, path),) = recording.files.items()
        raise data_error(
            path,
            f"the {name} file of {recording.name} alone",
            "the EEG's and the eye's, as both modalities are read together",
            f"Fetch the missing file from {_HOME}, or remove this one.",
        )


def _eye(
    measures: Mapping[Any, Any], path: Path, key: str, numbers: range
) -> dict[int, Array]:
    """Return the eye's measures (windows of 4 s, measures) of each trial of a part."""
    table = _table(measures, key, str(path), len(NUMBERED_MEASURES))
    return _cut(table, f"{path}, {key}", numbers, _EYE_WINDOW)


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        found = f"a {type(value).__name__}"
        raise data_error(where, found, "a dictionary of arrays", _FETCH_AGAIN)
    return value


def _table(held: Mapping[Any, Any], key: str, where: str, columns: int) -> Array:
    """Return an entry that must be a numeric array (windows, columns)."""
    array = held.get(key)
    expected = f"an array of shape (windows, {columns})"
    if not isinstance(array, np.ndarray):
        kind = "nothing" if array is None else f"a {type(array).__name__}"
        names = ", ".join(map(str, held)) or "no key"
        found = f"{kind} among the keys {names}"
        raise data_error(f"{where}, {key}", found, expected, _FETCH_AGAIN)
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[1] != columns:
        found = f"a {array.dtype} array of shape {array.shape}"
        raise data_error(f"{where}, {key}", found, expected, _FETCH_AGAIN)
    return array


def _cut(
    array: NDArray[Any], where: str, numbers: range, window: float
) -> dict[int, NDArray[Any]]:
    """Return the windows of each trial; a clip's length tells how many they are."""
    counts = [int(SECONDS[number - 1] // window) for number in numbers]
    if len(array) != sum(counts):
        raise data_error(
            where,
            f"{len(array)} windows",
            f"{sum(counts)}, the {window:g} s windows of trials {numbers[0]} to "
            f"{numbers[-1]}",
            _FETCH_AGAIN,
        )
    parts = np.split(array, np.cumsum(counts)[:-1])
    return dict(zip(numbers, parts, strict=True))


def _wrong_label(stored: NDArray[Any], where: str, number: int) -> DataError | None:
    """Return the error where a trial's windows do not all have the published label."""
    numeric = stored.dtype.kind in "iuf"
    wrong = stored[stored != LABELS[number - 1]] if numeric else stored
    if len(wrong) == 0:
        return None
    return data_error(
        f"{where}, trial {number}",
        f"the label {wrong[0].item()!r} in {len(wrong)} of {len(stored)} windows",
        f"{LABELS[number - 1]} ({CLASSES[LABELS[number - 1]]}) in all",
        _FETCH_AGAIN,
    )
