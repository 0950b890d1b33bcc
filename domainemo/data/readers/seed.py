"""SEED: EEG of fifteen people who watched the same fifteen film clips on three days."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...core import Modality
from ...errors import ConfigurationError, DataError, data_error
from ...registry import register
from ...values import given_path
from ...words import count
from ..files import MatFile, open_mat
from ..montage import SEED_BANDS, SEED_ELECTRODES
from ..reader import Reader, Recording, Trial, listing
from ..signals.features import band_power, differential_entropy
from ..signals.smoothing import linear_dynamic_system, moving_average
from .shared.seed_family import Feature, Source, span_of

__all__ = ["CLASSES", "LABELS", "SECONDS", "SEED", "absent_sessions", "find_folder"]

Array = NDArray[np.floating]

CLASSES = ("negative", "neutral", "positive")
"""Class names; the publisher's files count them -1, 0 and 1."""

LABELS = (2, 1, 0, 0, 1, 2, 0, 1, 2, 2, 1, 0, 1, 2, 0)
"""Class of each trial, the same in every session: an index into `CLASSES`."""

SECONDS = (235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206)
"""Length of each trial, the same in every session."""

SAMPLING_RATE = 200
"""Of the preprocessed recordings, in Hz."""

_SUBJECTS = range(1, 16)
_SESSIONS = (1, 2, 3)
_DATES = {
    1: ("20131027", "20131030", "20131107"),
    2: ("20140404", "20140413", "20140419"),
    3: ("20140603", "20140611", "20140629"),
    4: ("20140621", "20140702", "20140705"),
    5: ("20140411", "20140418", "20140506"),
    6: ("20130712", "20131016", "20131113"),
    7: ("20131027", "20131030", "20131106"),
    8: ("20140511", "20140514", "20140521"),
    9: ("20140620", "20140627", "20140704"),
    10: ("20131130", "20131204", "20131211"),
    11: ("20140618", "20140625", "20140630"),
    12: ("20131127", "20131201", "20131207"),
    13: ("20140527", "20140603", "20140610"),
    14: ("20140601", "20140615", "20140627"),
    15: ("20130709", "20131016", "20131105"),
}
_FILE = re.compile(r"(\d+)_(\d{8})\.mat", re.IGNORECASE)
_RECORDING_KEY = re.compile(r".*_eeg(\d+)")

_RAW = "Preprocessed_EEG"
_FEATURE_FOLDERS = {
    1.0: ("ExtractedFeatures_1s", "ExtractedFeatures"),
    4.0: ("ExtractedFeatures_4s",),
}
_PARENTS = ("", "SEED_EEG", "SEED/SEED_EEG", "SEED")
_FEATURES = {"de": "differential entropy", "psd": "power spectral density"}
_KEYS = {"lds": "LDS", "moving-average": "movingAve"}
Smoothing = Literal["lds", "moving-average", "none"]
_SHORTEST = {"de": 0.5, "psd": 1.0}
_SPAN = 5
_HOME = "https://bcmi.sjtu.edu.cn/home/seed/seed.html"
_FETCH_AGAIN = f"Fetch the file again from {_HOME}."


@register(name="seed")
class SEED(Reader):
    """Negative, neutral or positive film clips; EEG of 15 subjects in 3 sessions.

    Source: BCMI laboratory, Shanghai Jiao Tong University, on request,
    https://bcmi.sjtu.edu.cn/home/seed/seed.html; for academic research only, not to be
    passed on. Cite Zheng W-L, Lu B-L (2015). Investigating critical frequency bands and
    channels for EEG-based emotion recognition with deep neural networks. IEEE
    Transactions on Autonomous Mental Development 7(3):162-175, doi
    10.1109/TAMD.2015.2431497, and Duan R-N, Zhu J-Y, Lu B-L (2013). Differential
    entropy feature for EEG-based emotion classification, doi 10.1109/NER.2013.6695876.

    ``eeg`` holds five bands at 62 electrodes, either as the publisher released them
    (``ExtractedFeatures_1s``, in older copies ``ExtractedFeatures``, and
    ``ExtractedFeatures_4s``) or computed from the recordings of ``Preprocessed_EEG``.
    The two are on different scales; never mix them. The released asymmetry features
    (dasm, rasm, asm, dcau) are not offered: which pairs of electrodes they compare is
    not documented.

    The publisher's files hold no session number, so a subject's files are put in order
    of their dates, which must not contradict the published ones. If ``label.mat`` is
    there, it must hold the published labels; if not, these are used.

    Three things to know before believing a figure:

    - The same 15 clips are shown in every session, and the label is a function of the
      clip: in a transfer between subjects or sessions the stimuli of training and test
      are the same ones.
    - Smoothing by a linear dynamic system (LDS) is not causal: each window knows all
      windows of its trial. So is the moving average where computed; how the
      publisher took theirs is not documented. The band-pass filters of the computed
      entropy are not causal either.
    - A trial's length tells the clip, and so the class.

    Parameters
    ----------
    root : str or Path
        The data root, its folder ``SEED`` or ``SEED/SEED_EEG``, or the folder of the
        ``.mat`` files itself.
    feature : {"de", "psd"}
        Differential entropy or power spectral density. Computed, they are
        :func:`~domainemo.data.signals.features.differential_entropy` and
        :func:`~domainemo.data.signals.features.band_power`, between 1 and 50 Hz.
    smoothing : {"lds", "moving-average", "none"}
        Within a trial, by a linear dynamic system, or a moving average (computed: over
        five windows, centred), or not at all, which is only possible where computed.
    window : float
        Length of a window in seconds; windows do not overlap. Released: 1 or 4.
        Computed: from 0.5 (de) or 1 (psd) to 185, the shortest trial.
    source : {"released", "computed"}
        Whose features: the publisher's, or those computed here.

    Raises
    ------
    ConfigurationError
        If an option is not one of these, or does not go with the source.
    """

    home = _HOME

    def __init__(
        self,
        root: str | Path | None,
        *,
        feature: Feature = "de",
        smoothing: Smoothing = "lds",
        window: float = 1.0,
        source: Source = "released",
    ) -> None:
        _check_smoothing(smoothing, source)
        _check_window(window, source, feature)
        self.root = None if root is None else given_path("root", root)
        self.feature, self.smoothing = feature, smoothing
        self.window, self.source = float(window), source
        self.classes = CLASSES

    def recordings(self) -> list[Recording]:
        """Find each session's file, its session told by the date in its name.

        Raises
        ------
        DataError
            If there are none, or a date leaves open which session it is.
        """
        folder = self._folder()
        dated: dict[int, list[tuple[str, Path]]] = {}
        for path in sorted(folder.iterdir()):
            if match := _FILE.fullmatch(path.name):
                dated.setdefault(int(match[1]), []).append((match[2], path))
        labels = folder / "label.mat"
        also = {"labels": labels} if labels.is_file() else {}
        return [
            Recording(subject, {"eeg": path, **also}, session)
            for subject in sorted(dated)
            for session, path in _sessions(folder, subject, dated[subject])
        ]

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield the 15 trials of a session, or the error in place of one.

        Raises
        ------
        DataError
            If the file cannot be read, or ``label.mat`` does not hold the published
            labels.
        """
        if "labels" in recording.files:
            _check_labels(recording.files["labels"])
        assert recording.session is not None
        file = open_mat(recording.files["eeg"])
        dated = _date_note(recording)
        for number, label in enumerate(LABELS, 1):
            try:
                eeg, notes = self._eeg(file, number)
            except DataError as error:
                yield error
                continue
            yield Trial(
                session=recording.session,
                trial=number,
                stimulus=number,
                label=label,
                signals={"eeg": eeg},
                start=np.arange(len(eeg)) * self._step(),
                notes=(*dated, *notes),
            )

    def modalities(self) -> dict[str, Modality]:
        """Describe ``eeg``: 62 electrodes, five bands."""
        unit = ""  # of the released features, the scale is not documented
        if self.source == "computed":
            unit = "nat" if self.feature == "de" else "ln(power/Hz)"
        span = span_of(self.smoothing, self.source, self.window)
        bands = tuple(SEED_BANDS)
        return {"eeg": Modality(SEED_ELECTRODES, bands, "eeg", unit, span)}

    def title(self) -> str:
        """Name the feature, its source, the window and the smoothing."""
        smoothed = {
            "lds": "smoothed by LDS, which is not causal",
            "moving-average": "smoothed by moving average",
            "none": "not smoothed",
        }[self.smoothing]
        if self.source == "computed" and self.smoothing == "moving-average":
            smoothed = (
                f"smoothed by centred moving average over {_SPAN} windows, which is "
                f"not causal"
            )
        made = "as released" if self.source == "released" else f"computed from {_RAW}"
        return (
            f"seed (SEED's EEG, {_FEATURES[self.feature]} {made}, {self.window:g} s "
            f"windows, {smoothed})"
        )

    def release(self) -> str:
        """Name the part of SEED that is read: the publisher's folder."""
        return f"SEED, {self._folder().name}"

    def missing(self) -> list[str]:
        """List subjects and sessions that are not there, and ``label.mat``."""
        absent = absent_sessions(self.recordings(), _SUBJECTS)
        if not (self._folder() / "label.mat").is_file():
            absent.append("label.mat")
        return absent

    def _folder(self) -> Path:
        names: tuple[str, ...] = (_RAW,)
        if self.source == "released":
            names = _FEATURE_FOLDERS[self.window]
        others = {_RAW, *(name for each in _FEATURE_FOLDERS.values() for name in each)}
        places = [f"{above}/{name}".strip("/") for above in _PARENTS for name in names]
        # A folder of another name may be these files', copied; one that bears the
        # name of other files is not.
        if self.root is None or self.root.name not in others - set(names):
            places = ["", *places]
        return find_folder(
            "seed", self.root, places, _FILE, "<subject>_<date>.mat", _HOME
        )

    def _step(self) -> float:
        """Return the seconds from one window's start to the next one's."""
        if self.source == "released":
            return self.window
        return round(self.window * SAMPLING_RATE) / SAMPLING_RATE

    def _eeg(self, file: MatFile, number: int) -> tuple[Array, tuple[str, ...]]:
        """Return a trial's features (windows, electrodes, bands), and notes."""
        if self.source == "released":
            return self._released(file, number), ()
        signal, notes = _signal(file, number)
        measure = differential_entropy if self.feature == "de" else band_power
        features = measure(signal, SAMPLING_RATE, SEED_BANDS, self.window)
        if self.smoothing == "lds":
            features = linear_dynamic_system(features)
        elif self.smoothing == "moving-average":
            features = moving_average(features, _SPAN)
        return features, notes

    def _released(self, file: MatFile, number: int) -> Array:
        key = f"{self.feature}_{_KEYS[self.smoothing]}{number}"
        array = file.array(key)
        windows = int(SECONDS[number - 1] // self.window)
        expected = (len(SEED_ELECTRODES), windows, len(SEED_BANDS))
        if array.shape != expected:
            raise data_error(
                f"{file.path}, {key}",
                f"an array of shape {array.shape}",
                f"{expected} (electrodes, windows of {self.window:g} s, bands)",
                f"Choose the window that the folder is made of, or fetch the file "
                f"again from {_HOME}.",
            )
        features: Array = array.transpose(1, 0, 2)
        return features


# ------------------------------------------------------------------------- options


def _check_smoothing(smoothing: Smoothing, source: Source) -> None:
    if source == "released" and smoothing not in _KEYS:
        raise ConfigurationError(
            f"seed: found smoothing={smoothing!r} with source={source!r}; expected "
            f"one of {', '.join(map(repr, _KEYS))}, because SEED was "
            f"released smoothed only. Set source='computed' to compute features "
            f"from {_RAW}."
        )


def _check_window(window: float, source: Source, feature: Feature) -> None:
    if source == "released" and window not in _FEATURE_FOLDERS:
        raise ConfigurationError(
            f"seed: found window={window:g} with source='released'; expected 1 or 4 "
            f"s, as SEED was released. Set source='computed' for windows of any length."
        )
    shortest = _SHORTEST[feature]
    if not shortest <= window <= min(SECONDS):
        raise ConfigurationError(
            f"seed: found window={window:g} with feature={feature!r}; expected "
            f"{shortest:g} to {min(SECONDS)} s, because the slowest band starts at 1 "
            f"Hz and the shortest trial lasts {min(SECONDS)} s."
        )


# --------------------------------------------------------------------------- files


def find_folder(
    name: str,
    root: Path | None,
    places: Sequence[str],
    files: re.Pattern[str],
    pattern: str,
    home: str,
) -> Path:
    """Return the first of several folders that holds files of a certain name.

    Parameters
    ----------
    name : str
        The data set's, for messages.
    root : Path or None
        Where to look.
    places : sequence of str
        Folders below `root`, the empty string for itself, in order of preference.
    files : re.Pattern
        Matches the whole name of such a file.
    pattern : str
        The same for people.
    home : str
        Where the publisher offers the data set.

    Raises
    ------
    DataError
        If there is none; the message lists what was looked for.
    """
    looked = ", ".join(place or "the folder itself" for place in places)
    expected = f"files {pattern} in one of: {looked}"
    remedy = f"Name the folder that holds them, or ask for the data set at {home}."
    for folder in [root / place for place in places] if root else []:
        if folder.is_dir() and any(files.fullmatch(p.name) for p in folder.iterdir()):
            return folder
    raise data_error(root or name, listing(root), expected, remedy)


def absent_sessions(
    recordings: Sequence[Recording], subjects: Sequence[int]
) -> list[str]:
    """List the subjects and sessions of three that are not among the recordings."""
    present = {(each.subject, each.session) for each in recordings}
    absent: list[str] = []
    for subject in subjects:
        lacking = [each for each in _SESSIONS if (subject, each) not in present]
        if len(lacking) == len(_SESSIONS):
            absent.append(f"subject {subject}")
        else:
            absent += [f"subject {subject}, session {each}" for each in lacking]
    return absent


def _sessions(
    folder: Path, subject: int, dated: Sequence[tuple[str, Path]]
) -> list[tuple[int, Path]]:
    """Return a subject's files by session, decided by their dates."""
    where, names = f"{folder}, subject {subject}", [path.name for _, path in dated]
    if subject not in _SUBJECTS:
        remedy = "Remove what is not SEED's from the folder."
        raise data_error(where, ", ".join(names), "subjects 1 to 15", remedy)
    published = _DATES[subject]
    if len(dated) > 3 or len({date for date, _ in dated}) < len(dated):
        expected = f"three files of different dates ({', '.join(published)})"
        remedy = "Remove the file that is one too many."
        raise data_error(where, ", ".join(names), expected, remedy)
    ordered = sorted(dated)
    known = {date: session for session, date in enumerate(published, 1)}
    # Without all three, only the published dates tell which sessions they are.
    by_date: list[int | None] = [known.get(date) for date, _ in ordered]
    sessions = _SESSIONS if len(ordered) == 3 else by_date
    for session, (date, path) in zip(sessions, ordered, strict=True):
        if session is None or known.get(date, session) != session:
            raise data_error(
                where,
                f"{', '.join(names)}, which leaves open which session {path.name} is",
                f"the dates {', '.join(published)} of sessions 1, 2 and 3",
                "Fetch the subject's missing files, or give them their published "
                "names.",
            )
    return [(n, path) for n, (_, path) in zip(sessions, ordered, strict=True) if n]


def _date_note(recording: Recording) -> tuple[str, ...]:
    """Say where the session is told by dates other than the published ones."""
    assert recording.session is not None
    published = _DATES[recording.subject][recording.session - 1]
    match = _FILE.fullmatch(recording.files["eeg"].name)
    if match and match[2] == published:
        return ()
    return ("date other than the published one, session by the order of dates",)


def _check_labels(path: Path) -> None:
    """Raise unless ``label.mat`` holds the published labels, as numbers of any type."""
    published = np.array(LABELS) - 1
    stored = open_mat(path).array("label").ravel()
    if not np.array_equal(stored, published):
        raise data_error(
            f"{path}, label",
            str(stored.tolist()[:20]),
            f"{published.tolist()}, the published labels of the 15 trials",
            f"{_FETCH_AGAIN} Or remove it, and the published labels are used.",
        )


def _signal(file: MatFile, number: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return a trial's recording (electrodes, samples), and notes.

    Each recording of T seconds has 200 T + 1 samples, of which the first one is cut
    off.
    """
    key = _recording_key(file, number)
    array = file.array(key)
    where, samples = f"{file.path}, {key}", SECONDS[number - 1] * SAMPLING_RATE
    usual = (len(SEED_ELECTRODES), samples + 1)
    if array.shape not in (usual, (usual[0], samples)):
        found = f"an array of shape {array.shape}"
        expected = f"{usual} (electrodes, samples at {SAMPLING_RATE} Hz)"
        raise data_error(where, found, expected, _FETCH_AGAIN)
    lost = int((~np.isfinite(array)).any(axis=0).sum())
    if lost:
        found = f"NaN or infinity in {count(lost, 'sample')}"
        raise data_error(where, found, "finite values", _FETCH_AGAIN)
    if array.shape[1] == samples:
        return array, ("recording without the usual extra sample",)
    return array[:, 1:], ()


def _recording_key(file: MatFile, number: int) -> str:
    """Return the variable of a trial: each file has a prefix of its own."""
    matches = [(name, _RECORDING_KEY.fullmatch(name)) for name in file.names]
    keys: list[str] = [
        name for name, match in matches if match and int(match[1]) == number
    ]
    if len(keys) != 1:
        raise data_error(
            f"{file.path}, trial {number}",
            f"the variables {', '.join(keys)}" if keys else "no variable of this trial",
            f"one that is called <initials>_eeg{number}",
            _FETCH_AGAIN,
        )
    return keys[0]
