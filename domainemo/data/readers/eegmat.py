"""EEGMAT: rest and mental arithmetic, EEG and ECG, from PhysioNet's EDF files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from ...core import Modality
from ...errors import DataError, data_error
from ...registry import register
from ...values import Bounds, given_path
from ..reader import Reader, Recording, Trial, listing
from ..signals.features import (
    BANDS,
    HEART_MEASURES,
    constant_windows,
    differential_entropy,
    heart_measures,
)

__all__ = ["EEGMAT"]

Array = NDArray[np.float64]

CLASSES = ("rest", "arithmetic")
"""Class names; files of class 0 end in ``_1.edf``, those of class 1 in ``_2.edf``."""

STIMULI = (2, 1)
"""What stands for the stimulus of each class: a number, in the order of their names, as
the name itself would be shown where no label may be."""

_NAMES = "Fp1 Fp2 F3 F4 F7 F8 T3 T4 C3 C4 T5 T6 P3 P4 O1 O2 Fz Cz Pz"
ELECTRODES = tuple(_NAMES.split())
"""The 19 electrodes of the 10-20 system, in the order of the files."""

SAMPLING_RATE = 500
"""Of every published file, in Hz."""

SUBJECTS = range(36)
"""The subjects of the full release, counted from 0 as in the files' names."""

_LABELS = (*(f"EEG {name}" for name in ELECTRODES), "EEG A2-A1", "ECG ECG")
_AROUND = 16.0  # seconds around a window that its heart measures are made of
_WINDOW = Bounds(
    0.5,
    60,
    words="0.5 to 60 s, because the slowest band starts at 1 Hz and the task lasts "
    "60 s",
)
_FOLDERS = (
    "",
    "eegmat_raw",
    "eegmat",
    # As wget -r and the publisher's zip file lay them out.
    "physionet.org/files/eegmat/1.0.0",
    "eeg-during-mental-arithmetic-tasks-1.0.0",
)
_FILE = re.compile(r"Subject(\d+)_([12])\.edf")
_HOME = "https://physionet.org/content/eegmat/1.0.0/"
_FETCH_AGAIN = f"Download the file again from {_HOME}."


@register(name="eegmat")
class EEGMAT(Reader):
    """Rest (0) against mental arithmetic (1); EEG and ECG of up to 36 students.

    Source: PhysioNet, "EEG During Mental Arithmetic Tasks" 1.0.0,
    https://physionet.org/content/eegmat/1.0.0/, as published: ``SubjectNN_1.edf`` is
    about 180 s of rest, ``SubjectNN_2.edf`` 60 s of serial subtraction, both of one
    day (session 1), 500 Hz. Licence: Open Data Commons Attribution (ODC-BY) 1.0.
    Cite Zyma I, Tukaev S, Seleznov I, Kiyono K, Popov A, Chernykh M, Shpenkov O (2019).
    Electroencephalograms during mental arithmetic task performance. Data 4(1):14, doi
    10.3390/data4010014.

    ``eeg`` holds the differential entropy (nats, of microvolts) of five bands at 19
    electrodes; ``ecg`` the heart rate, SDNN, RMSSD and the logarithm of the 5-25 Hz
    amplitude (of millivolts) in the 16 s around each window. See
    :mod:`domainemo.data.signals.features`; the filters are not causal.

    Two things to know before believing a figure:

    - Rest always precedes the task and each is one recording of its own. Whatever
      drifts, or differs between two recordings, is confounded with the class; and as
      rest is three times as long, a trial's length tells the class.
    - There is no signal in the last second or two of every file, where each channel
      holds one value to fill up the EDF's records; the reader cuts that off. Where no
      heart beat can be told from noise (all of subject 2's rest), ``ecg`` is NaN.

    Parameters
    ----------
    root : str or Path
        The folder of the EDF files, or the data root above it, in which they may lie
        in ``eegmat_raw`` or ``eegmat``, or as PhysioNet's zip file unpacks.
    window : float
        Length of a window in seconds; windows do not overlap.
    reference : {"average", "linked-ears"}
        What the EEG is measured against: the average of the 19 electrodes, or the
        joined ears, as recorded.

    Raises
    ------
    ConfigurationError
        If an option is not one of these.
    """

    home = _HOME
    classes = CLASSES

    def __init__(
        self,
        root: str | Path | None,
        *,
        window: Annotated[float, _WINDOW] = 4.0,
        reference: Literal["average", "linked-ears"] = "average",
    ) -> None:
        self.root = None if root is None else given_path("root", root)
        self.window, self.reference = window, reference

    def recordings(self) -> list[Recording]:
        """Find each subject's two files.

        Raises
        ------
        DataError
            If there are none, or a subject has only one.
        """
        files: dict[int, dict[str, Path]] = {}
        for (subject, label), path in _find_files(self.root).items():
            files.setdefault(subject, {})[CLASSES[label]] = path
        return [Recording(subject, paths) for subject, paths in files.items()]

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield trial 0 (rest) and trial 1 (arithmetic), or what is wrong with them."""
        for label, name in enumerate(CLASSES):
            try:
                yield self._trial(recording.files[name], recording.subject, label)
            except DataError as error:
                yield error

    def modalities(self) -> dict[str, Modality]:
        """Describe ``eeg`` and ``ecg``."""
        return {
            "eeg": Modality(ELECTRODES, tuple(BANDS), "eeg", "nat"),
            "ecg": Modality(
                HEART_MEASURES,
                ("value",),
                "physiology",
                "bpm, ms, ms, ln(mV)",
                max(_AROUND, self.window),
            ),
        }

    def title(self) -> str:
        """Name the release, the window and the reference."""
        return (
            f"eegmat (PhysioNet EEG During Mental Arithmetic Tasks 1.0.0, "
            f"{self.window:g} s windows, {self.reference} reference)"
        )

    def release(self) -> str:
        """Name the release and say how many of its subjects are there."""
        return (
            f"EEG During Mental Arithmetic Tasks 1.0.0, {len(self.recordings())} of "
            f"{len(SUBJECTS)} subjects"
        )

    def missing(self) -> list[str]:
        """List the subjects that are not there."""
        present = {recording.subject for recording in self.recordings()}
        return [f"subject {each}" for each in SUBJECTS if each not in present]

    def _trial(self, path: Path, subject: int, label: int) -> Trial:
        """Read one file."""
        microvolts, millivolts, padding = _read(path)
        seconds = microvolts.shape[1] / SAMPLING_RATE
        samples = round(self.window * SAMPLING_RATE)
        if microvolts.shape[1] < samples:
            raise DataError(
                f"{path}: found {seconds:g} s of signal, expected at least one window "
                f"of {self.window:g} s. Choose a shorter window, or remove both "
                f"recordings of subject {subject}."
            )
        lost = constant_windows(microvolts, samples)
        if self.reference == "average":
            microvolts = microvolts - microvolts.mean(axis=0)
        eeg = differential_entropy(microvolts, SAMPLING_RATE, BANDS, self.window)
        eeg[lost] = np.nan
        heart = heart_measures(
            millivolts, SAMPLING_RATE, self.window, neighbourhood=_AROUND
        )
        noted = {
            "padding at the end cut off": padding > 0,
            "an electrode off": lost.any(),
            "heart beat lost": np.isnan(heart).any(),
        }
        return Trial(
            session=1,
            trial=label,
            stimulus=STIMULI[label],
            label=label,
            signals={
                "eeg": eeg.astype(np.float32),
                "ecg": heart[:, :, None].astype(np.float32),
            },
            start=np.arange(len(eeg)) * (samples / SAMPLING_RATE),
            notes=tuple(note for note, applies in noted.items() if applies),
        )


# -------------------------------------------------------------------------- files


def _find_files(root: Path | None) -> dict[tuple[int, int], Path]:
    """Return the files by (subject, class), in that order."""
    for folder in [root / name for name in _FOLDERS] if root else []:
        if paths := dict(_named_files(folder)):
            _check_pairs(folder, paths)
            return dict(sorted(paths.items()))
    layout = f"SubjectNN_1.edf (rest) and SubjectNN_2.edf (arithmetic) from {_HOME}"
    expected = f"{layout} here, in eegmat_raw/ or in eegmat/"
    remedy = "Download the files, or name their folder."
    raise data_error(root or "eegmat", listing(root), expected, remedy)


def _named_files(folder: Path) -> Iterator[tuple[tuple[int, int], Path]]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        match = _FILE.fullmatch(path.name)
        if match:
            yield (int(match[1]), int(match[2]) - 1), path


def _check_pairs(folder: Path, paths: dict[tuple[int, int], Path]) -> None:
    alone = [
        paths[subject, label].name
        for subject, label in sorted(paths)
        if (subject, 1 - label) not in paths
    ]
    if alone:
        raise DataError(
            f"{folder}: found {', '.join(alone)} without the subject's other "
            f"recording; expected both SubjectNN_1.edf (rest) and SubjectNN_2.edf "
            f"(arithmetic) of every subject. Download the missing file from {_HOME}, "
            f"or remove the single one."
        )


def _read(path: Path) -> tuple[Array, Array, int]:
    """Return EEG (electrodes, samples) in microvolts and ECG (samples,) in millivolts.

    The padding at the end of the file is cut off; last comes its length in samples.
    """
    try:
        _check_header(path)
    except OSError as error:
        raise data_error(
            path,
            f"a file that could not be read ({error.strerror or error})",
            "an EDF file as published",
            f"Check that you may read it and that its disk works. {_FETCH_AGAIN}",
        ) from error
    # Importing MNE takes seconds, which listing and checking should not.
    import mne

    try:
        raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
        volts = raw.get_data(picks=list(_LABELS))
    except Exception as error:
        raise DataError(
            f"{path}: found what MNE cannot read ({type(error).__name__}: {error}); "
            f"expected an EDF file as published. {_FETCH_AGAIN}"
        ) from error
    end = _signal_end(volts)
    if end == 0:
        raise DataError(
            f"{path}: found a constant value in every channel, expected a signal. "
            f"{_FETCH_AGAIN}"
        )
    padding = volts.shape[1] - end
    return volts[: len(ELECTRODES), :end] * 1e6, volts[-1, :end] * 1e3, padding


def _signal_end(volts: Array) -> int:
    """Return the number of samples before the padding that fills the last records.

    In the padding all channels hold one value for about a second, then another one to
    the end; in a signal of 21 channels something changes with every sample.
    """
    changes = np.flatnonzero((volts[:, 1:] != volts[:, :-1]).any(axis=0)) + 1
    busy = np.flatnonzero(np.diff(changes) <= SAMPLING_RATE // 10)
    return int(changes[busy[-1] + 1]) + 1 if len(busy) else 0


# ------------------------------------------------------------------------- header


@dataclass(frozen=True)
class _Header:
    """What an EDF header says of the file's layout."""

    length: int
    records: int
    record_seconds: float
    labels: tuple[str, ...]
    record_samples: tuple[int, ...]

    @property
    def file_length(self) -> int:
        """Length of the whole file in bytes: samples take two each."""
        return self.length + self.records * 2 * sum(self.record_samples)


def _check_header(path: Path) -> None:
    """Raise where a file is cut off or not laid out as published.

    MNE reads a file that is cut off as a shorter one, and brings channels of different
    sampling rates to one rate, with no more than a warning.
    """
    header, length = _read_header(path), path.stat().st_size
    if length != header.file_length:
        raise DataError(
            f"{path}: found {length} bytes, expected {header.file_length} from the "
            f"header's {header.records} records of {header.record_seconds:g} s; the "
            f"file is {'cut off' if length < header.file_length else 'too long'}. "
            f"{_FETCH_AGAIN}"
        )
    rates = {
        label: samples / header.record_seconds
        for label, samples in zip(header.labels, header.record_samples, strict=True)
        if label != "EDF Annotations"
    }
    missing = [label for label in _LABELS if label not in rates]
    extra = [label for label in rates if label not in _LABELS]
    if missing or extra:
        raise DataError(
            f"{path}, channel labels: not found {', '.join(missing) or 'none'}, found "
            f"besides {', '.join(extra) or 'none'}; expected the {len(_LABELS)} "
            f"channels of the published files, the same in all. {_FETCH_AGAIN}"
        )
    for label, rate in rates.items():
        if rate != SAMPLING_RATE:
            raise DataError(
                f"{path}, channel {label!r}: found a sampling rate of {rate:g} Hz, "
                f"expected {SAMPLING_RATE} Hz as in every published file. "
                f"{_FETCH_AGAIN}"
            )


def _read_header(path: Path) -> _Header:
    """Read the fixed and the per-channel part of an EDF header.

    The layout is that of Kemp et al. (1992), https://www.edfplus.info/specs/edf.html.
    """
    with path.open("rb") as file:
        fixed = file.read(256)
        if len(fixed) < 256 or fixed[:8] != b"0       ":
            raise DataError(
                f"{path}, version field: found {fixed[:8]!r} in {len(fixed)} header "
                f"bytes, expected b'0       ' in 256: this is no EDF file. "
                f"{_FETCH_AGAIN}"
            )
        channels = _count(path, "number of signals", fixed[252:256])
        text = file.read(256 * channels)
    if len(text) < 256 * channels:
        raise DataError(
            f"{path}, header: found {256 + len(text)} bytes, expected "
            f"{256 + 256 * channels} for {channels} signals; the file is cut off. "
            f"{_FETCH_AGAIN}"
        )
    labels = _fields(text, 16, channels)
    # Between them: transducer, unit, four ends of ranges, filter; 216 bytes a channel.
    samples = _fields(text[216 * channels :], 8, channels)
    return _Header(
        length=_count(path, "header length", fixed[184:192]),
        records=_count(path, "number of records", fixed[236:244]),
        record_seconds=_number(path, "record duration", fixed[244:252]),
        labels=tuple(label.decode("latin-1").strip(" ") for label in labels),
        record_samples=tuple(
            _count(path, "samples per record", item) for item in samples
        ),
    )


def _fields(text: bytes, width: int, count: int) -> list[bytes]:
    return [text[width * index :][:width] for index in range(count)]


def _count(path: Path, field: str, text: bytes) -> int:
    """Return a whole number; ``9e99`` would be one to Python, but is none in EDF."""
    if not text.strip().isdigit():
        raise _wrong_number(path, field, text)
    return int(_number(path, field, text))


def _number(path: Path, field: str, text: bytes) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < np.inf:
        raise _wrong_number(path, field, text)
    return number


def _wrong_number(path: Path, field: str, text: bytes) -> DataError:
    return DataError(
        f"{path}, header field {field!r}: found {text!r}, expected a number above 0; "
        f"the recording was not finished, or the file is damaged. {_FETCH_AGAIN}"
    )
