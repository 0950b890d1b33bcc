"""DREAMER: 23 subjects, 18 film clips; EEG of a wireless headset and ECG."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...core import Modality
from ...errors import ConfigurationError, DataError, data_error
from ...processes import cores
from ...registry import register
from ...values import given_path
from ..files import open_mat
from ..reader import Reader, Recording, Trial, listing
from ..signals.eeg import EEGFeature, EEGFeatures, mean_second_removed
from ..signals.features import HEART_MEASURES, baseline_removed, heart_measures
from .shared.ratings import RatingClasses, Ties, within_scale

__all__ = ["DREAMER"]

Array = NDArray[Any]

SUBJECTS = range(1, 24)
TRIALS = 18
EEG_RATE = 128
ECG_RATE = 256
PER_SAMPLE = ECG_RATE // EEG_RATE
"""ECG samples to one of the EEG: what an index into the one is in the other."""

BASELINE_SECONDS = 61

_NAMES = "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4"
ELECTRODES = tuple(_NAMES.split())
"""The headset's 14 electrodes, in the order of the file."""

SCALES = {
    "valence": "ScoreValence",
    "arousal": "ScoreArousal",
    "dominance": "ScoreDominance",
}
"""Fields of the ratings."""

_FOLDERS = ("", "DREAMER", "dreamer")
_FILE = "DREAMER.mat"
_AROUND = 16.0  # seconds, at least, that hold enough heart beats
_FETCH_AGAIN = f"Fetch {_FILE} again from the publisher."


@register(name="dreamer")
class DREAMER(Reader):
    """DREAMER: 23 subjects rated 18 film clips; EEG of 14 electrodes, and ECG.

    Source: https://zenodo.org/records/546113, on request; one file, ``DREAMER.mat``:
    EEG at 128 Hz, ECG of two leads at 256 Hz, 61 s of baseline before each clip. Cite
    Katsigiannis S, Ramzan N (2018). DREAMER: a database for emotion recognition through
    EEG and ECG signals from wireless low-cost off-the-shelf devices. IEEE Journal of
    Biomedical and Health Informatics 22(1):98-107, doi 10.1109/JBHI.2017.2688239.

    ``eeg`` holds features of 14 electrodes (windows, 14, bands); ``ecg`` the heart
    rate, SDNN, RMSSD and amplitude in the 16 s around each window, of the whole clip
    (windows, 4, 1), NaN where no rhythm is found, see
    :func:`domainemo.data.signals.features.heart_measures`. With ``feature="raw"`` both
    hold the samples: (windows, 14, 128 a second) and (windows, 2, 256 a second).

    Things to know before believing a figure:

    - Ratings are whole numbers from 1 to 5, of which 3, the middle, is the commonest;
      so `ties` decides which class is the larger one. With ``"high"``, a rating of 3
      and more is high, as PhysioSync has it; with ``"low"``, 4 and 5 alone are.
    - Clips last from one to several minutes, so that with ``crop="all"`` a trial's
      number of windows tells the clip.
    - The EEG stands on an offset of some 4000 microvolts, which the bands leave out,
      and raw samples keep unless the baseline is subtracted.

    The file is read once by whatever reads all subjects. That takes about 4 GB of
    memory for a moment, twice the 2 GB of its values, which are then let go subject
    by subject; :meth:`recordings` holds them until then, as the number of subjects
    stands in the file alone.

    Parameters
    ----------
    root : str or Path
        The folder of ``DREAMER.mat``, or one above it with ``DREAMER/`` in it.
    target : {"valence", "arousal", "dominance", "quadrant"}
        The rating that becomes low or high; or valence and arousal together, as the
        four classes LVLA, LVHA, HVLA and HVHA.
    threshold : float
        Ratings above it are high, ratings below it low.
    ties : {"high", "low", "drop"}
        What a rating of exactly `threshold` is; with ``"drop"`` its trial is left out.
    feature : {"de", "psd", "raw"}
        Differential entropy (nats, of microvolts), logarithm of the power spectral
        density, or the samples.
    window : float
        Length of a window in seconds, 0.5 to 60; windows do not overlap. What remains
        of the crop after the last full window is dropped.
    bands : tuple of str
        Names of :data:`domainemo.data.signals.features.BANDS`. Raw samples have none.
    crop : {"last", "first", "all"}
        The part of each clip that is used. The filters and the heart rate see all of
        it.
    seconds : float
        Length of the last or first part. A clip that is shorter is used whole, and
        noted.
    baseline : {"features", "none"}
        ``"features"``: those of the 61 s before the clip, in windows of the same
        length, are averaged and subtracted from those of each window; of the EEG
        alone, since a baseline in which no heart beat is found would lose the trial.
        Of raw samples the mean of the baseline's seconds is subtracted from each
        second, EEG and ECG alike.
    ecg : bool
        Whether to read the ECG.
    ecg_lead : {1, 2}
        The lead that the heart measures are made of.

    Raises
    ------
    ConfigurationError
        If an option is not one of these.
    """

    home = "https://zenodo.org/records/546113"

    def __init__(
        self,
        root: str | Path | None,
        *,
        target: Literal["valence", "arousal", "dominance", "quadrant"] = "valence",
        threshold: Annotated[float, within_scale(1, 5)] = 3.0,
        ties: Ties = "high",
        feature: EEGFeature = "de",
        window: float = 1.0,
        bands: tuple[str, ...] = ("theta", "alpha", "beta"),
        crop: Literal["last", "first", "all"] = "last",
        seconds: float = 60.0,
        baseline: Literal["features", "none"] = "features",
        ecg: bool = True,
        ecg_lead: Literal[1, 2] = 1,
    ) -> None:
        self._rule = RatingClasses(target, threshold, ties)
        self._eeg = EEGFeatures("dreamer", EEG_RATE, feature, tuple(bands), window)
        if crop != "all" and seconds < window:
            raise ConfigurationError(
                f"dreamer: found seconds={seconds!r}; expected at least one window of "
                f"{window:g} s, or crop='all' for the whole clips."
            )
        self.root = None if root is None else given_path("root", root)
        self.target, self.threshold, self.ties = target, threshold, ties
        self.feature, self.window, self.bands = feature, window, tuple(bands)
        self.crop, self.seconds, self.baseline = crop, seconds, baseline
        self.ecg, self.ecg_lead = ecg, ecg_lead
        self.classes = self._rule.classes
        self._held: _Contents | None = None

    def recordings(self) -> list[Recording]:
        """Return one recording per subject, all of the one file, which is read."""
        path = _find_file(self.root)
        return [
            Recording(subject, {"eeg": path, "ecg": path})
            for subject in range(1, self._contents(path).count + 1)
        ]

    def files(self) -> list[Path]:
        """Return the file's path, without reading it."""
        return [_find_file(self.root)]

    def read_all(
        self, recordings: Sequence[Recording], jobs: int | None = 1
    ) -> Iterator[tuple[Recording, list[Trial | DataError]]]:
        """Yield each recording with its trials, in order, having read the file once.

        `jobs` are threads: other processes would need the file's contents again.
        """
        jobs = jobs or cores()
        try:
            if jobs == 1 or len(recordings) == 1:
                for recording in recordings:
                    yield recording, self._alone_with(recording).read(recording)
            else:
                yield from self._read_in_threads(recordings, jobs)
        finally:
            self._held = None

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield a subject's trials, in order of the clips' numbers."""
        path = recording.files["eeg"]
        contents = self._contents(path, recording.subject)
        where = f"{path}, subject {recording.subject}"
        if recording.subject not in contents.subjects:
            found = f"{contents.count} subjects"
            raise data_error(where, found, "this one as well", _FETCH_AGAIN)
        subject = _Subject.of(contents.subjects[recording.subject], where)
        for number in range(1, TRIALS + 1):
            try:
                label = self._rule.label(subject.ratings(number))
                if label is not None:
                    signals = subject.signals(number, contents.order)
                    yield self._trial(number, label, signals)
            except DataError as error:
                yield error

    def modalities(self) -> dict[str, Modality]:
        """Describe the EEG's features and the heart measures or the ECG's samples."""
        eeg = self._eeg
        described = {"eeg": Modality(ELECTRODES, eeg.names, "eeg", eeg.unit)}
        if self.ecg and self.feature == "raw":
            samples = tuple(map(str, range(eeg.samples * PER_SAMPLE)))
            described["ecg"] = Modality(("lead_1", "lead_2"), samples, "physiology")
        elif self.ecg:
            unit = "bpm, ms, ms, ln of the file's unit"
            measures = HEART_MEASURES, ("value",), "physiology", unit
            described["ecg"] = Modality(*measures, span=max(_AROUND, eeg.seconds))
        return described

    def title(self) -> str:
        """Name the data set and its options."""
        whole = "whole clips"
        part = whole if self.crop == "all" else f"{self.crop} {self.seconds:g} s"
        parts = [self._rule.describe(), self._eeg.describe(), part]
        if self.baseline == "none":
            parts.append("baseline not used")
        elif self.feature == "raw":
            parts.append("less the mean second of the baseline")
        else:
            parts.append("EEG less the mean features of the baseline")
        if self.ecg and self.feature == "raw":
            parts.append("with the ECG's samples")
        elif self.ecg:
            parts.append(f"with heart measures of ECG lead {self.ecg_lead}")
        return f"dreamer ({'; '.join(parts)})"

    def release(self) -> str:
        """Say which version the file states."""
        contents = self._contents(_find_file(self.root))
        return f"{_FILE}, version {contents.version}, {contents.count} subjects"

    def missing(self) -> list[str]:
        """List the subjects that the file lacks."""
        count = self._contents(_find_file(self.root)).count
        return [f"subject {number}" for number in SUBJECTS if number > count]

    # ----------------------------------------------------------------- one reading

    def _contents(self, path: Path, subject: int | None = None) -> _Contents:
        """Return what the file holds, with `subject` if given; read it if need be."""
        held, state = self._held, _state(path)
        if held is None or held.state != state or held.has_let_go(subject):
            self._held = held = _read(path, state)
        return held

    def _alone_with(self, recording: Recording) -> DREAMER:
        """Return a copy that holds one subject, of whom this reader then lets go."""
        alone, number = copy.copy(self), recording.subject
        try:
            contents = self._contents(recording.files["eeg"], number)
        except DataError:
            return alone  # which meets the error itself, and reports it
        if number in contents.subjects:
            subject = contents.subjects.pop(number)
            alone._held = replace(contents, subjects={number: subject})
        return alone

    def _read_in_threads(
        self, recordings: Sequence[Recording], jobs: int
    ) -> Iterator[tuple[Recording, list[Trial | DataError]]]:
        pool = ThreadPoolExecutor(jobs)
        try:
            futures = [
                pool.submit(self._alone_with(recording).read, recording)
                for recording in recordings
            ]
            for recording, future in zip(recordings, futures, strict=True):
                yield recording, future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    # ------------------------------------------------------------------- one trial

    def _trial(self, number: int, label: int, signals: _Signals) -> Trial:
        """Return a trial's windows."""
        self._check_length(signals)
        begin, end = self._cropped(signals.length)
        windows = (end - begin) // self._eeg.samples
        found = {"eeg": self._eeg_features(signals, begin)}
        if self.ecg and self.feature == "raw":
            ecg = signals.ecg
            if self.baseline == "features":
                ecg = mean_second_removed(ecg, signals.ecg_before, ECG_RATE)
            found["ecg"] = self._eeg.cut(ecg[:, PER_SAMPLE * begin :], PER_SAMPLE)
        elif self.ecg:
            heart = self._heart(signals.ecg[self.ecg_lead - 1], begin)
            found["ecg"] = heart[:, :, None]
        kept = {
            name: array[:windows].astype(np.float32) for name, array in found.items()
        }
        start = begin / EEG_RATE + np.arange(windows) * self._eeg.seconds
        notes = list(signals.notes)
        if self.crop != "all" and signals.length < round(self.seconds * EEG_RATE):
            notes.append(f"clip shorter than {self.seconds:g} s used whole")
        return Trial(1, number, number, label, kept, start, tuple(notes))

    def _check_length(self, signals: _Signals) -> None:
        """Raise unless clip and baseline hold a window, and a second."""
        shortest = max(self._eeg.samples, EEG_RATE)
        used = {"the clip": signals.length}
        if self.baseline != "none":
            ecg = signals.ecg_before.shape[1] // PER_SAMPLE
            used["the baseline"] = min(signals.eeg_before.shape[1], ecg)
        for what, samples in used.items():
            if samples < shortest:
                found = f"{samples / EEG_RATE:g} s of {what}"
                expected = f"at least {shortest / EEG_RATE:g} s: a window, and 1 s"
                remedy = "Choose a shorter window."
                raise data_error(signals.where, found, expected, remedy)

    def _cropped(self, length: int) -> tuple[int, int]:
        """Return the EEG samples at which the used part of a clip begins and ends."""
        part = length if self.crop == "all" else round(self.seconds * EEG_RATE)
        part = min(part, length)
        begin = length - part if self.crop == "last" else 0
        return begin, begin + part

    def _eeg_features(self, signals: _Signals, begin: int) -> Array:
        """Return the features of the windows from an EEG sample on."""
        eeg, before = signals.eeg, signals.eeg_before
        if self.baseline == "none":
            return self._eeg.of(eeg, begin)
        if self.feature == "raw":
            eeg = mean_second_removed(eeg, before, EEG_RATE)
            return self._eeg.of(eeg, begin)
        return baseline_removed(self._eeg.of(eeg, begin), self._eeg.of(before))

    def _heart(self, ecg: Array, begin: int) -> Array:
        """Return the heart measures of the windows from an *EEG* sample on."""
        samples = self._eeg.samples
        # Windows are cut from the start on; less than one is left out before it.
        lead = begin % samples
        seconds = self._eeg.seconds
        measures = heart_measures(
            ecg[PER_SAMPLE * lead :],
            ECG_RATE,
            seconds,
            neighbourhood=max(_AROUND, seconds),
        )
        return measures[begin // samples :]


# ------------------------------------------------------------------------------- file


@dataclass(frozen=True)
class _Contents:
    """What ``DREAMER.mat`` holds.

    Attributes
    ----------
    state : tuple
        Path, size and time of change of the file when it was read.
    count : int
        Number of subjects in the file.
    order : list of int
        Where each of `ELECTRODES` stands among the file's channels.
    version : str
    subjects : dict of int to struct
        Those that nobody has read yet.
    """

    state: tuple[Path, int, int]
    count: int
    order: list[int]
    version: str
    subjects: dict[int, Any]

    def has_let_go(self, subject: int | None) -> bool:
        """Return whether this subject is in the file, and no longer here."""
        return subject in range(1, self.count + 1) and subject not in self.subjects


@dataclass(frozen=True)
class _Signals:
    """One trial's signals, of shape (channels, samples), clip and what precedes it.

    EEG and ECG of the clip last equally long.
    """

    eeg: Array
    eeg_before: Array
    ecg: Array
    ecg_before: Array
    where: str
    notes: tuple[str, ...]

    @property
    def length(self) -> int:
        """EEG samples of the clip."""
        return int(self.eeg.shape[1])


@dataclass(frozen=True)
class _Subject:
    """One subject's values, lists with an entry per trial, and where they lie."""

    scores: dict[str, Array]
    lists: dict[tuple[str, str], list[Any]]
    where: str

    @classmethod
    def of(cls, struct: Any, where: str) -> _Subject:
        """Take the struct apart."""
        scores = {}
        for scale, field in SCALES.items():
            values = np.asarray(_field(struct, field, where))
            if values.shape != (TRIALS,) or values.dtype.kind not in "iuf":
                found = f"an array of shape {values.shape} and type {values.dtype}"
                place, expected = f"{where}, field {field}", f"{TRIALS} numbers"
                raise data_error(place, found, expected, _FETCH_AGAIN)
            scores[scale] = values
        lists = {}
        for name in ("EEG", "ECG"):
            inner, place = _field(struct, name, where), f"{where}, field {name}"
            for part in ("stimuli", "baseline"):
                items = _field(inner, part, place)
                if not isinstance(items, list) or len(items) != TRIALS:
                    count = len(items) if isinstance(items, list) else "no"
                    found, expected = f"{count} cells", f"{TRIALS}, one per trial"
                    raise data_error(f"{place}.{part}", found, expected, _FETCH_AGAIN)
                lists[name, part] = items
        return cls(scores, lists, where)

    def ratings(self, number: int) -> dict[str, float]:
        """Return a trial's ratings; raise where one is none of the scale."""
        ratings = {
            scale: float(values[number - 1]) for scale, values in self.scores.items()
        }
        for scale, rating in ratings.items():
            if rating not in (1, 2, 3, 4, 5):
                place = f"{self.where}, trial {number}, field {SCALES[scale]}"
                expected = "1, 2, 3, 4 or 5"
                raise data_error(place, f"{rating:g}", expected, _FETCH_AGAIN)
        return ratings

    def signals(self, number: int, order: list[int]) -> _Signals:
        """Return a trial's signals, the electrodes in `order`; raise for bad ones."""
        where = f"{self.where}, trial {number}"
        (eeg, eeg_before), (ecg, ecg_before) = (
            [
                _signal(
                    self.lists[name, part][number - 1],
                    channels,
                    f"{where}, field {name}.{part}",
                )
                for part in ("stimuli", "baseline")
            ]
            for name, channels in (("EEG", len(ELECTRODES)), ("ECG", 2))
        )
        _check_durations(eeg, ecg, where)
        length = min(eeg.shape[1], ecg.shape[1] // PER_SAMPLE)
        notes = []
        if eeg.shape[1] * PER_SAMPLE != ecg.shape[1]:
            notes.append("EEG and ECG cut to the shorter")
        if eeg_before.shape[1] != BASELINE_SECONDS * EEG_RATE:
            notes.append(f"baseline of other than {BASELINE_SECONDS} s")
        if order != sorted(order):
            notes.append("electrodes put into the usual order")
        return _Signals(
            eeg=eeg[order, :length],
            eeg_before=eeg_before[order],
            ecg=ecg[:, : PER_SAMPLE * length],
            ecg_before=ecg_before,
            where=where,
            notes=tuple(notes),
        )


def _find_file(root: Path | None) -> Path:
    expected = f"the folder that holds {_FILE}"
    remedy = f"Name that folder, or the one above it; it comes from {DREAMER.home}."
    for path in [root / folder / _FILE for folder in _FOLDERS] if root else []:
        if path.is_file():
            return path
    raise data_error(root or "dreamer", listing(root), expected, remedy)


def _state(path: Path) -> tuple[Path, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        found = f"no file to read ({error.strerror})"
        raise data_error(path, found, "a MATLAB file", "Check the path.") from error
    return path, status.st_size, status.st_mtime_ns


def _read(path: Path, state: tuple[Path, int, int]) -> _Contents:
    """Read the whole file, and check what concerns all subjects."""
    struct = open_mat(path).value("DREAMER")
    where = f"{path}, variable 'DREAMER'"
    data = _field(struct, "Data", where)
    subjects = data if isinstance(data, list) else [data]
    expected = {
        "EEG_SamplingRate": EEG_RATE,
        "ECG_SamplingRate": ECG_RATE,
        "noOfSubjects": len(subjects),
        "noOfVideoSequences": TRIALS,
    }
    for field, number in expected.items():
        found = _field(struct, field, where)
        if not isinstance(found, int | float) or found != number:
            raise data_error(
                f"{where}, field {field}", f"{found!r}", f"{number}", _FETCH_AGAIN
            )
    order = _order(_field(struct, "EEG_Electrodes", where), where)
    version = struct.get("Version", "not stated")
    if isinstance(version, float) and version.is_integer():
        version = int(version)
    numbered = dict(enumerate(subjects, 1))
    return _Contents(state, len(subjects), order, str(version), numbered)


def _field(struct: Any, field: str, where: str) -> Any:
    if not isinstance(struct, Mapping):
        found = f"a value of type {type(struct).__name__}"
        expected = f"a struct with the field {field}"
        raise data_error(where, found, expected, _FETCH_AGAIN)
    if field not in struct:
        found = f"only the fields {', '.join(map(str, struct))}"
        raise data_error(where, found, f"a field {field}", _FETCH_AGAIN)
    return struct[field]


def _order(electrodes: Any, where: str) -> list[int]:
    """Return where each of `ELECTRODES` stands in the file."""
    names = [str(name) for name in electrodes] if isinstance(electrodes, list) else []
    if sorted(names) != sorted(ELECTRODES):
        raise data_error(
            f"{where}, field EEG_Electrodes",
            ", ".join(names) or f"{electrodes!r:.80}",
            f"the {len(ELECTRODES)} of the headset, {', '.join(ELECTRODES)}",
            _FETCH_AGAIN,
        )
    return [names.index(name) for name in ELECTRODES]


def _signal(found: Any, channels: int, where: str) -> Array:
    """Return (channels, samples) of an array of (samples, channels)."""
    array: Array = np.asarray(found)
    if array.ndim != 2 or array.shape[1] != channels or array.dtype.kind not in "iuf":
        held = f"an array of shape {array.shape} and type {array.dtype}"
        expected = f"real numbers of shape (samples, {channels})"
        raise data_error(where, held, expected, _FETCH_AGAIN)
    lost = int((~np.isfinite(array)).any(axis=1).sum())
    if lost:
        held = f"NaN or infinity in {lost} of {len(array)} samples"
        raise data_error(where, held, "finite values", _FETCH_AGAIN)
    return array.T


def _check_durations(eeg: Array, ecg: Array, where: str) -> None:
    """Raise if a clip's EEG and ECG differ by more than a second."""
    durations = eeg.shape[1] / EEG_RATE, ecg.shape[1] / ECG_RATE
    if abs(durations[0] - durations[1]) > 1:
        found = (
            f"{durations[0]:g} s of EEG at {EEG_RATE} Hz and {durations[1]:g} s of ECG "
            f"at {ECG_RATE} Hz"
        )
        raise data_error(where, found, "durations within a second", _FETCH_AGAIN)
